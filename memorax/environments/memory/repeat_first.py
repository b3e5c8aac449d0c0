"""Repeat the first card."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, PyTree

from memorax.environments.memory.cards import (
    CARDS_PER_DECK,
    SUITS,
    check_decks,
    draw_card,
    full_decks,
)
from memorax.environments.memory.task import Advance, Task
from memorax.environments.spaces import Discrete, Space


@struct.dataclass
class RepeatFirstState:
    """The state of ``RepeatFirst``.

    Attributes:
        first: The suit of the first card.
        remaining: Number of cards of each suit left.
    """

    first: PyTree
    remaining: PyTree


@dataclass(frozen=True)
class RepeatFirst(Task):
    """Cards are shown one by one; each action is to name the suit of the first.

    A right action earns 1 / (cards - 1), a wrong one loses as much. The episode terminates with the
    last card.

    Attributes:
        num_decks: Decks of 52 cards, up to 1,260; an episode has a step less than there are cards.

    Raises:
        ValueError: If ``num_decks`` is out of its range.

    Source: Morad et al. 2023, "POPGym", arXiv 2303.01859; sizes as in its package, version 1.0.7.
    """

    num_decks: int = 1

    def __post_init__(self):
        """Check the fields."""
        check_decks("RepeatFirst.num_decks", self.num_decks)

    def begin(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return an episode's first observation and its state."""
        suit, remaining = draw_card(key, full_decks(self.num_decks, SUITS))
        return suit, RepeatFirstState(suit, remaining)

    def advance(self, key: Array, state: PyTree, action: Array, params: Any) -> Advance:
        """Act once within an episode."""
        worth = 1 / (self.num_decks * CARDS_PER_DECK - 1)
        reward = jnp.where(action == state.first, worth, -worth)
        suit, remaining = draw_card(key, state.remaining)
        ended = remaining.sum() == 0
        return suit, RepeatFirstState(state.first, remaining), reward, ended, jnp.bool_(False)

    def observation_space(self, params: Any) -> Space:
        """Return the suits."""
        return Discrete(SUITS)

    def action_space(self, params: Any) -> Space:
        """Return the suits."""
        return Discrete(SUITS)
