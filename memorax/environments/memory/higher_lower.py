"""Guess whether the next card is higher or lower."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, PyTree

from memorax.environments.memory.cards import (
    CARDS_PER_DECK,
    RANKS,
    check_decks,
    draw_card,
    full_decks,
)
from memorax.environments.memory.task import Advance, Task
from memorax.environments.spaces import Discrete, Space

HIGHER = 0


@struct.dataclass
class HigherLowerState:
    """The state of ``HigherLower``.

    Attributes:
        card: The rank in sight.
        remaining: Number of cards of each rank left.
    """

    card: PyTree
    remaining: PyTree


@dataclass(frozen=True)
class HigherLower(Task):
    """Cards are shown one by one; each action guesses that the next is higher, 0, or lower, 1.

    A right action earns 1 / cards, a wrong one loses as much, and a card of the same rank does
    neither. The episode terminates with the last card.

    Attributes:
        num_decks: Decks of 52 cards, up to 1,260; an episode has a step less than there are cards.

    Raises:
        ValueError: If ``num_decks`` is out of its range.

    Source: Morad et al. 2023, "POPGym", arXiv 2303.01859; sizes as in its package, version 1.0.7.
    """

    num_decks: int = 1

    def __post_init__(self):
        """Check the fields."""
        check_decks("HigherLower.num_decks", self.num_decks)

    def begin(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return an episode's first observation and its state."""
        card, remaining = draw_card(key, full_decks(self.num_decks, RANKS))
        return card, HigherLowerState(card, remaining)

    def advance(self, key: Array, state: PyTree, action: Array, params: Any) -> Advance:
        """Act once within an episode."""
        worth = 1 / (self.num_decks * CARDS_PER_DECK)
        card, remaining = draw_card(key, state.remaining)
        right = (card > state.card) == (action == HIGHER)
        reward = jnp.where(right, worth, -worth)
        reward = jnp.where(card == state.card, 0.0, reward)
        ended = remaining.sum() == 0
        return card, HigherLowerState(card, remaining), reward, ended, jnp.bool_(False)

    def observation_space(self, params: Any) -> Space:
        """Return the ranks."""
        return Discrete(RANKS)

    def action_space(self, params: Any) -> Space:
        """Return higher and lower."""
        return Discrete(2)
