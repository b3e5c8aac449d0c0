"""Repeat the card of some steps ago."""

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
from memorax.validation import check_integer


@struct.dataclass
class RepeatPreviousState:
    """The state of ``RepeatPrevious``.

    Attributes:
        latest: The suits of the latest k cards, the oldest first; -1 before there were so many.
        remaining: Number of cards of each suit left.
    """

    latest: PyTree
    remaining: PyTree


@dataclass(frozen=True)
class RepeatPrevious(Task):
    """Cards are shown one by one; each action is to name the suit shown k - 1 steps ago.

    Once there have been k cards, the one in sight among them, a right action earns 1 / (cards - k)
    and a wrong one loses as much; before, nothing is earned. The episode terminates with the last
    card.

    Attributes:
        num_decks: Decks of 52 cards, up to 1,260; an episode has a step less than there are cards.
        k: Number of cards back, counting the visible one.

    Raises:
        ValueError: If ``num_decks`` is out of its range, or not a card more than k.

    Source: Morad et al. 2023, "POPGym", arXiv 2303.01859; sizes as in its package, version 1.0.7.
    """

    num_decks: int = 1
    k: int = 4

    def __post_init__(self):
        """Check the fields."""
        check_decks("RepeatPrevious.num_decks", self.num_decks)
        check_integer("RepeatPrevious.k", self.k, 1, self.num_decks * CARDS_PER_DECK - 1)

    def begin(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return an episode's first observation and its state."""
        suit, remaining = draw_card(key, full_decks(self.num_decks, SUITS))
        latest = jnp.full(self.k, -1, jnp.int32).at[-1].set(suit)
        return suit, RepeatPreviousState(latest, remaining)

    def advance(self, key: Array, state: PyTree, action: Array, params: Any) -> Advance:
        """Act once within an episode."""
        worth = 1 / (self.num_decks * CARDS_PER_DECK - self.k)
        asked = state.latest[0]
        reward = jnp.where(action == asked, worth, -worth)
        reward = jnp.where(asked < 0, 0.0, reward)
        suit, remaining = draw_card(key, state.remaining)
        latest = jnp.roll(state.latest, -1).at[-1].set(suit)
        ended = remaining.sum() == 0
        return suit, RepeatPreviousState(latest, remaining), reward, ended, jnp.bool_(False)

    def observation_space(self, params: Any) -> Space:
        """Return the suits."""
        return Discrete(SUITS)

    def action_space(self, params: Any) -> Space:
        """Return the suits."""
        return Discrete(SUITS)
