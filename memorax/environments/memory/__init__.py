"""Our own tasks that need memory, in pure JAX."""

import dataclasses
from typing import Any

from memorax.environments.environment import Environment
from memorax.environments.memory.memory_chain import MemoryChain
from memorax.environments.memory.repeat_first import RepeatFirst
from memorax.environments.memory.repeat_previous import RepeatPrevious
from memorax.environments.memory.t_maze import TMaze
from memorax.environments.memory.task import Task
from memorax.environments.parameters import check_parameters
from memorax.validation import unknown_name

__all__ = ["MemoryChain", "RepeatFirst", "RepeatPrevious", "TMaze", "Task", "make", "names"]


def _levels(name: str, kind: type[Task], **sizes: tuple[Any, Any, Any]) -> dict[str, Any]:
    """Name a task's three levels: ``sizes`` are its fields' values in each."""
    return {
        f"{name}{level}": (kind, {field: values[index] for field, values in sizes.items()})
        for index, level in enumerate(("Easy", "Medium", "Hard"))
    }


# Each name's task and the fields that make it so.
_TASKS: dict[str, tuple[type[Task], dict[str, Any]]] = {
    **_levels("RepeatFirst", RepeatFirst, num_decks=(1, 8, 16)),
    **_levels("RepeatPrevious", RepeatPrevious, num_decks=(1, 2, 3), k=(4, 32, 64)),
    "MemoryChain": (MemoryChain, {}),
    "TMazePassive": (TMaze, {}),
    "TMazeActive": (TMaze, {"active": True}),
}


def names() -> list[str]:
    """Return the names of our own tasks."""
    return list(_TASKS)


def make(name: str, **params: Any) -> tuple[Environment, Any]:
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
