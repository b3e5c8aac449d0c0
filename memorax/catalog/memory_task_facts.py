"""What is known of our own memory tasks: sizes, spaces, and returns that can be reached.

The tests compare all of it with the tasks.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from memorax.catalog.memory_tasks import find_memory_task

CARDS = 52
SUITS = 4
KINDS = {"colors": 2, "suits": 4, "ranks": 13}
ELEMENTS = {"Z2": 2, "S3": 6, "A5": 60}
"""Of each group."""

COUNTING_CARDS = {1: 0.5275997, 2: 0.5161031, 3: 0.5114591}
"""By decks, what HigherLower earns who knows the cards that are left: the mean of
|higher - lower| / left over all that can be left, which the tests add up."""


def _unknown(task: Any) -> None:
    return None


@dataclass(frozen=True)
class Facts:
    """What is known of a kind of task, most of it by the task's fields.

    Attributes:
        remember: What has to be remembered.
        fields: The task's parameters, with their defaults.
        steps: The longest episode.
        observation: The observation's parts.
        actions: How many actions there are, or how many numbers an action has.
        best: The mean return that perfect play reaches; None where it is not known.
        without_memory: The mean return that no policy without memory exceeds; likewise.
    """

    remember: str
    fields: dict[str, Any]
    steps: Callable[[Any], int]
    observation: Callable[[Any], str]
    actions: Callable[[Any], str]
    best: Callable[[Any], float | None] = _unknown
    without_memory: Callable[[Any], float | None] = _unknown


@dataclass(frozen=True)
class TaskFacts:
    """What is known of a task by name; the attributes of ``Facts``, with the task's sizes."""

    remember: str
    fields: dict[str, Any]
    steps: int
    observation: str
    actions: str
    best: float | None
    without_memory: float | None


def _one(task: Any) -> float:
    return 1.0


def _cards(task: Any) -> int:
    return CARDS * task.num_decks


def _guess(right: float, guesses: int) -> float:
    """Return what ``right`` of some guesses earn, where the others lose as much."""
    return 2 * right / guesses - 1


def _repeat_first_without_memory(task: Any) -> float:
    """Name the suit in sight: right at the first step, and if the first card has the same suit."""
    cards = _cards(task)
    return _guess(1 + (cards - 2) * (cards / SUITS - 1) / (cards - 1), cards - 1)


def _repeat_previous_without_memory(task: Any) -> float:
    """Name another suit than that in sight, which has a card less among the others."""
    return 1.0 if task.k == 1 else _guess(_cards(task) / SUITS, _cards(task) - 1)


def _autoencode_without_memory(task: Any) -> float:
    """Name the last card, which is in sight, then always the same suit."""
    return _guess(1 + _cards(task) / SUITS - 1 / SUITS, _cards(task))


def _cart_pole(remember: str) -> Facts:
    return Facts(
        remember,
        {"max_episode_length": 200, "noise_sigma": 0.0},
        steps=lambda task: task.max_episode_length,
        observation=lambda _: "2 numbers",
        actions=lambda _: "2",
        best=lambda task: 1.0 if task.noise_sigma == 0 else None,
    )


def _labyrinth(remember: str) -> Facts:
    return Facts(
        remember,
        {"maze_size": 10, "episode_length": 1024},
        steps=lambda task: task.episode_length - 1,
        observation=lambda _: "10 categories",
        actions=lambda _: "4",
    )


FACTS = {
    "AssociativeRecall": Facts(
        "the value last written to each key",
        {"num_keys": 4, "num_values": 4, "num_writes": 4, "num_queries": 4},
        steps=lambda task: task.num_keys * (task.num_writes + task.num_queries),
        observation=lambda _: "2 categories",
        actions=lambda task: f"{task.num_values}",
        best=_one,
        without_memory=lambda task: 2 / task.num_values - 1,
    ),
    "Autoencode": Facts(
        "all cards, to name them backwards",
        {"num_decks": 1},
        steps=lambda task: 2 * _cards(task) - 1,
        observation=lambda _: "2 categories",
        actions=lambda _: f"{SUITS}",
        best=_one,
        without_memory=_autoencode_without_memory,
    ),
    "Battleship": Facts(
        "which shots hit",
        {"board_size": 10},
        steps=lambda task: task.board_size**2,
        observation=lambda _: "1 of 2",
        actions=lambda task: f"{task.board_size**2}",
    ),
    "Concentration": Facts(
        "where cards lie",
        {"num_decks": 1, "kinds": "ranks"},
        steps=lambda task: math.ceil(2 * _cards(task) - _cards(task) / (2 * _cards(task) - 1)),
        observation=lambda task: f"{_cards(task)} categories",
        actions=lambda task: f"{_cards(task)}",
    ),
    "CountRecall": Facts(
        "how many cards of each kind there were",
        {"num_decks": 1, "kinds": "colors"},
        steps=lambda task: _cards(task) - 1,
        observation=lambda _: "2 categories",
        actions=lambda task: f"{_cards(task) // KINDS[task.kinds] + 1}",
        best=_one,
    ),
    "HigherLower": Facts(
        "which cards are gone",
        {"num_decks": 1},
        steps=lambda task: _cards(task) - 1,
        observation=lambda _: "1 of 13",
        actions=lambda _: "2",
        best=lambda task: COUNTING_CARDS.get(task.num_decks),
        # Of 13 ranks, the one with r below it has 12 - r above: the mean of |12 - 2r| is 84 / 13.
        without_memory=lambda task: 84 / 13 / 13,
    ),
    "KeyToDoor": Facts(
        "the colour of a key, two rooms ago",
        {
            "room_size": 5,
            "num_apples": 5,
            "steps_with_key": 10,
            "steps_with_apples": 15,
            "steps_with_doors": 10,
        },
        steps=lambda task: task.steps_with_key + task.steps_with_apples + task.steps_with_doors,
        observation=lambda task: f"{8 + task.room_size**2} numbers",
        actions=lambda _: "4",
    ),
    "LabyrinthEscape": _labyrinth("where one has been, to find the exit"),
    "LabyrinthExplore": _labyrinth("where one has been, to see all"),
    "MemoryChain": Facts(
        "a bit, until the end",
        {"memory_length": 10},
        steps=lambda task: task.memory_length + 1,
        observation=lambda _: "3 numbers",
        actions=lambda _: "2",
        best=_one,
        without_memory=lambda _: 0.0,
    ),
    "MineSweeper": Facts(
        "how many mines are around which squares",
        {"size": 4, "num_mines": 2},
        steps=lambda task: task.size**2 - task.num_mines,
        observation=lambda task: f"1 of {min(task.num_mines, 9) + 1}",
        actions=lambda task: f"{task.size**2}",
    ),
    "MultiarmedBandit": Facts(
        "what each arm paid",
        {"num_bandits": 10, "episode_length": 200},
        steps=lambda task: task.episode_length,
        observation=lambda _: "1 of 2",
        actions=lambda task: f"{task.num_bandits}",
    ),
    "RepeatFirst": Facts(
        "the first card",
        {"num_decks": 1},
        steps=lambda task: _cards(task) - 1,
        observation=lambda _: f"1 of {SUITS}",
        actions=lambda _: f"{SUITS}",
        best=_one,
        without_memory=_repeat_first_without_memory,
    ),
    "RepeatPrevious": Facts(
        "the card of k - 1 steps ago",
        {"num_decks": 1, "k": 4},
        steps=lambda task: _cards(task) - 1,
        observation=lambda _: f"1 of {SUITS}",
        actions=lambda _: f"{SUITS}",
        best=_one,
        without_memory=_repeat_previous_without_memory,
    ),
    "SelectiveCopying": Facts(
        "the marked symbols, in their order",
        {"num_symbols": 4, "num_marked": 4, "num_noise": 12},
        steps=lambda task: 2 * task.num_marked + task.num_noise,
        observation=lambda _: "2 categories",
        actions=lambda task: f"{task.num_symbols}",
        best=_one,
        without_memory=lambda task: 2 / task.num_symbols - 1,
    ),
    "StatelessCartPole": _cart_pole("positions, to infer velocities"),
    "StatelessPendulum": Facts(
        "angles, to infer velocities",
        {"max_episode_length": 200, "noise_sigma": 0.0},
        steps=lambda task: task.max_episode_length,
        observation=lambda _: "2 numbers",
        actions=lambda _: "1 number",
    ),
    "TMaze": Facts(
        "which way to turn at a corridor's end",
        {"corridor_length": 10, "active": False, "late_penalty": True},
        steps=lambda task: task.corridor_length + 1 + task.active,
        observation=lambda _: "4 numbers",
        actions=lambda _: "4",
        best=_one,
        without_memory=lambda _: 0.5,
    ),
    "VelocityOnlyCartPole": _cart_pole("velocities, to infer positions"),
    "WordProblem": Facts(
        "the product of all inputs",
        {"group": "Z2", "episode_length": 32},
        steps=lambda task: task.episode_length,
        observation=lambda task: f"1 of {ELEMENTS[task.group]}",
        actions=lambda task: f"{ELEMENTS[task.group]}",
        best=_one,
        # The element in sight is the product at the first step.
        without_memory=lambda task: _guess(
            1 + (task.episode_length - 1) / ELEMENTS[task.group], task.episode_length
        ),
    ),
}
"""Each kind of task by its class in ``memorax.environments.memory``."""


def facts_of(name: str) -> TaskFacts:
    """Return what is known of one of our own tasks.

    Raises:
        ValueError: If there is none of that name; the closest are named.
    """
    task = find_memory_task(name)
    facts = FACTS[task.kind]
    fields = facts.fields | task.sizes
    sized = SimpleNamespace(**fields)
    return TaskFacts(
        facts.remember,
        fields,
        facts.steps(sized),
        facts.observation(sized),
        facts.actions(sized),
        facts.best(sized),
        facts.without_memory(sized),
    )
