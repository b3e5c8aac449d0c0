"""The base class of our own tasks."""

import math
from dataclasses import dataclass

from memorax.environments.episodic import Advance, EpisodicEnvironment
from memorax.environments.spaces import MOST_CHOICES

__all__ = ["WIDEST_BOARD", "Advance", "Task"]

WIDEST_BOARD = math.isqrt(MOST_CHOICES)
"""Squares along each side, so that a policy can choose among all of them."""


@dataclass(frozen=True)
class Task(EpisodicEnvironment):
    """A task of our own, defined by how an episode begins and advances.

    A task is a frozen dataclass whose fields are the task's parameters, checked when it is made,
    so that ``params`` is ``None`` everywhere. Subclasses implement ``begin``, ``advance`` and the
    two spaces.
    """

    @property
    def name(self) -> str:
        """The task's name."""
        return type(self).__name__
