"""Our own tasks that need memory, in pure JAX."""

import dataclasses
from typing import Any

from memorax.environments.checks import check_parameters
from memorax.environments.environment import Environment
from memorax.environments.memory.autoencode import Autoencode
from memorax.environments.memory.battleship import Battleship
from memorax.environments.memory.cart_pole import StatelessCartPole, VelocityOnlyCartPole
from memorax.environments.memory.concentration import Concentration
from memorax.environments.memory.count_recall import CountRecall
from memorax.environments.memory.higher_lower import HigherLower
from memorax.environments.memory.key_to_door import KeyToDoor
from memorax.environments.memory.labyrinth import LabyrinthEscape, LabyrinthExplore
from memorax.environments.memory.memory_chain import MemoryChain
from memorax.environments.memory.mine_sweeper import MineSweeper
from memorax.environments.memory.multiarmed_bandit import MultiarmedBandit
from memorax.environments.memory.pendulum import StatelessPendulum
from memorax.environments.memory.repeat_first import RepeatFirst
from memorax.environments.memory.repeat_previous import RepeatPrevious
from memorax.environments.memory.t_maze import TMaze
from memorax.environments.memory.task import Task
from memorax.validation import unknown_name

__all__ = [
    "Autoencode",
    "Battleship",
    "Concentration",
    "CountRecall",
    "HigherLower",
    "KeyToDoor",
    "LabyrinthEscape",
    "LabyrinthExplore",
    "MemoryChain",
    "MineSweeper",
    "MultiarmedBandit",
    "RepeatFirst",
    "RepeatPrevious",
    "StatelessCartPole",
    "StatelessPendulum",
    "TMaze",
    "Task",
    "VelocityOnlyCartPole",
    "make",
    "names",
]


def _levels(name: str, kind: type[Task], **sizes: tuple[Any, Any, Any]) -> dict[str, Any]:
    """Name a task's three levels: ``sizes`` are its fields' values in each."""
    return {
        f"{name}{level}": (kind, {field: values[index] for field, values in sizes.items()})
        for index, level in enumerate(("Easy", "Medium", "Hard"))
    }


# Each name's task and the fields that make it so.
_TASKS: dict[str, tuple[type[Task], dict[str, Any]]] = {
    **_levels("Autoencode", Autoencode, num_decks=(1, 2, 3)),
    **_levels("Battleship", Battleship, board_size=(8, 10, 12)),
    **_levels(
        "Concentration", Concentration, num_decks=(1, 2, 1), kinds=("colors", "colors", "ranks")
    ),
    **_levels("CountRecall", CountRecall, num_decks=(1, 2, 4), kinds=("colors", "suits", "ranks")),
    **_levels("HigherLower", HigherLower, num_decks=(1, 2, 3)),
    **_levels("LabyrinthEscape", LabyrinthEscape, maze_size=(10, 14, 18)),
    **_levels("LabyrinthExplore", LabyrinthExplore, maze_size=(10, 14, 18)),
    **_levels("MineSweeper", MineSweeper, size=(4, 6, 8), num_mines=(2, 6, 10)),
    **_levels(
        "MultiarmedBandit",
        MultiarmedBandit,
        num_bandits=(10, 20, 30),
        episode_length=(200, 400, 600),
    ),
    **_levels("NoisyStatelessCartPole", StatelessCartPole, noise_sigma=(0.1, 0.2, 0.3)),
    **_levels("NoisyStatelessPendulum", StatelessPendulum, noise_sigma=(0.1, 0.2, 0.3)),
    **_levels("RepeatFirst", RepeatFirst, num_decks=(1, 8, 16)),
    **_levels("RepeatPrevious", RepeatPrevious, num_decks=(1, 2, 3), k=(4, 32, 64)),
    **_levels("StatelessCartPole", StatelessCartPole, max_episode_length=(200, 400, 600)),
    **_levels("StatelessPendulum", StatelessPendulum, max_episode_length=(200, 150, 100)),
    **_levels("VelocityOnlyCartPole", VelocityOnlyCartPole, max_episode_length=(200, 400, 600)),
    "KeyToDoor": (KeyToDoor, {}),
    "MemoryChain": (MemoryChain, {}),
    "TMazePassive": (TMaze, {}),
    "TMazeActive": (TMaze, {"active": True}),
}


def names() -> list[str]:
    """Return the names of our own tasks."""
    return list(_TASKS)


def make(name: str, /, **params: Any) -> tuple[Environment, Any]:
    """Return a task of our own, and its parameters, which are none: its fields say it all.

    Args:
        name: The task's name, such as ``"RepeatFirstEasy"``.
        **params: Fields of the task in place of the level's own.

    Raises:
        ValueError: If there is no such task, it has no such field, or a value is of another
            kind or out of range.
    """
    if name not in _TASKS:
        raise ValueError(unknown_name("memory task", name, names()))
    kind, sizes = _TASKS[name]
    defaults = {field.name: field.default for field in dataclasses.fields(kind)} | sizes
    check_parameters(f"memory::{name}", params, defaults)
    return kind(**(sizes | params)), None
