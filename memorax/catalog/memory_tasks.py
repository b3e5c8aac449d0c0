"""Our own tasks that need memory, by name."""

from dataclasses import dataclass, field
from typing import Any

from memorax.validation import unknown_name


@dataclass(frozen=True)
class MemoryTask:
    """A task by name.

    Attributes:
        kind: The task's class in ``memorax.environments.memory``.
        sizes: The fields that make it so.
    """

    kind: str
    sizes: dict[str, Any] = field(default_factory=dict)


def _levels(name: str, kind: str, **sizes: tuple[Any, Any, Any]) -> dict[str, MemoryTask]:
    """Name a task's three levels: ``sizes`` are its fields' values in each."""
    return {
        f"{name}{level}": MemoryTask(
            kind, {field: values[index] for field, values in sizes.items()}
        )
        for index, level in enumerate(("Easy", "Medium", "Hard"))
    }


MEMORY_TASKS: dict[str, MemoryTask] = {
    **_levels(
        "AssociativeRecall",
        "AssociativeRecall",
        num_keys=(4, 8, 16),
        num_values=(4, 8, 8),
        num_writes=(4, 4, 8),
        num_queries=(4, 4, 4),
    ),
    **_levels("Autoencode", "Autoencode", num_decks=(1, 2, 3)),
    **_levels("Battleship", "Battleship", board_size=(8, 10, 12)),
    **_levels(
        "Concentration", "Concentration", num_decks=(1, 2, 1), kinds=("colors", "colors", "ranks")
    ),
    **_levels(
        "CountRecall", "CountRecall", num_decks=(1, 2, 4), kinds=("colors", "suits", "ranks")
    ),
    **_levels("HigherLower", "HigherLower", num_decks=(1, 2, 3)),
    **_levels("LabyrinthEscape", "LabyrinthEscape", maze_size=(10, 14, 18)),
    **_levels("LabyrinthExplore", "LabyrinthExplore", maze_size=(10, 14, 18)),
    **_levels("MineSweeper", "MineSweeper", size=(4, 6, 8), num_mines=(2, 6, 10)),
    **_levels(
        "MultiarmedBandit",
        "MultiarmedBandit",
        num_bandits=(10, 20, 30),
        episode_length=(200, 400, 600),
    ),
    **_levels("NoisyStatelessCartPole", "StatelessCartPole", noise_sigma=(0.1, 0.2, 0.3)),
    **_levels("NoisyStatelessPendulum", "StatelessPendulum", noise_sigma=(0.1, 0.2, 0.3)),
    **_levels("RepeatFirst", "RepeatFirst", num_decks=(1, 8, 16)),
    **_levels("RepeatPrevious", "RepeatPrevious", num_decks=(1, 2, 3), k=(4, 32, 64)),
    **_levels(
        "SelectiveCopying",
        "SelectiveCopying",
        num_symbols=(4, 8, 8),
        num_marked=(4, 8, 16),
        num_noise=(12, 56, 240),
    ),
    **_levels("StatelessCartPole", "StatelessCartPole", max_episode_length=(200, 400, 600)),
    **_levels("StatelessPendulum", "StatelessPendulum", max_episode_length=(200, 150, 100)),
    **_levels("VelocityOnlyCartPole", "VelocityOnlyCartPole", max_episode_length=(200, 400, 600)),
    **_levels("WordProblem", "WordProblem", group=("Z2", "S3", "A5"), episode_length=(32, 32, 64)),
    "KeyToDoor": MemoryTask("KeyToDoor"),
    "MemoryChain": MemoryTask("MemoryChain"),
    "TMazePassive": MemoryTask("TMaze"),
    "TMazeActive": MemoryTask("TMaze", {"active": True}),
}
"""Each name's task and the fields that make it so."""


def find_memory_task(name: str) -> MemoryTask:
    """Return a task by its name.

    Raises:
        ValueError: If there is none of that name; the closest are named.
    """
    if name not in MEMORY_TASKS:
        raise ValueError(unknown_name("memory task", name, MEMORY_TASKS))
    return MEMORY_TASKS[name]
