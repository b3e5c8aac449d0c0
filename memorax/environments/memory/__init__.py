"""Our own tasks that need memory, in pure JAX."""

import dataclasses
from typing import Any

from memorax.catalog.memory_tasks import MEMORY_TASKS, find_memory_task
from memorax.environments.checks import check_parameters
from memorax.environments.environment import Environment
from memorax.environments.memory.associative_recall import AssociativeRecall
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
from memorax.environments.memory.selective_copying import SelectiveCopying
from memorax.environments.memory.t_maze import TMaze
from memorax.environments.memory.task import Task
from memorax.environments.memory.word_problem import WordProblem

__all__ = [
    "AssociativeRecall",
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
    "SelectiveCopying",
    "StatelessCartPole",
    "StatelessPendulum",
    "TMaze",
    "Task",
    "VelocityOnlyCartPole",
    "WordProblem",
    "make",
    "names",
]


_KINDS: dict[str, type[Task]] = {
    kind.__name__: kind
    for kind in (
        *(AssociativeRecall, Autoencode, Battleship, Concentration, CountRecall, HigherLower),
        *(KeyToDoor, LabyrinthEscape, LabyrinthExplore, MemoryChain, MineSweeper),
        *(MultiarmedBandit, RepeatFirst, RepeatPrevious, SelectiveCopying, StatelessCartPole),
        *(StatelessPendulum, TMaze, VelocityOnlyCartPole, WordProblem),
    )
}


def names() -> list[str]:
    """Return the names of our own tasks."""
    return list(MEMORY_TASKS)


def make(name: str, /, **params: Any) -> tuple[Environment, Any]:
    """Return a task of our own and ``None``: its parameters are fields.

    Args:
        name: The task's name, such as ``"RepeatFirstEasy"``.
        **params: Fields of the task in place of the level's own.

    Raises:
        ValueError: If the task or a field is unknown, or a value is of another
            kind or out of range.
    """
    task = find_memory_task(name)
    kind = _KINDS[task.kind]
    defaults = {field.name: field.default for field in dataclasses.fields(kind)} | task.sizes
    check_parameters(f"memory::{name}", params, defaults)
    return kind(**(task.sizes | params)), None
