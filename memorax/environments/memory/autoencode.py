"""Recite cards backwards."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
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
from memorax.environments.spaces import Discrete, MultiDiscrete, Space

PLAY, WATCH = range(2)


@struct.dataclass
class AutoencodeState:
    """The state of ``Autoencode``.

    Attributes:
        cards: The suits of the cards shown, in order; 0 where none has been.
        position: Cards shown, or while reciting, cards left to recite.
        mode: Whether cards are shown or recited.
        remaining: Number of cards of each suit left.
    """

    cards: PyTree
    position: PyTree
    mode: PyTree
    remaining: PyTree


@dataclass(frozen=True)
class Autoencode(Task):
    """All cards are shown one by one; then their suits have to be named, the last one first.

    Observations are (whether cards are shown, 1, or the next action recites, 0; the suit shown).
    The last card is shown together with the first 0, as in the package, and no suit but 0 after it.
    A right action while reciting earns 1 / cards, a wrong one loses as much. The episode terminates
    with the first card.

    Attributes:
        num_decks: Decks of 52 cards, up to 1,260; an episode has a step less than twice as many
            steps.

    Raises:
        ValueError: If ``num_decks`` is out of its range.

    Source: Morad et al. 2023, "POPGym", arXiv 2303.01859; sizes as in its package, version 1.0.7.
    """

    num_decks: int = 1

    def __post_init__(self):
        """Check the fields."""
        check_decks("Autoencode.num_decks", self.num_decks)

    def begin(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return an episode's first observation and its state."""
        suit, remaining = draw_card(key, full_decks(self.num_decks, SUITS))
        cards = jnp.zeros(self.num_decks * CARDS_PER_DECK, jnp.int32).at[0].set(suit)
        state = AutoencodeState(cards, jnp.int32(1), jnp.int32(WATCH), remaining)
        return jnp.stack([state.mode, suit]), state

    def advance(self, key: Array, state: PyTree, action: Array, params: Any) -> Advance:
        """Act once within an episode."""
        worth = 1 / (self.num_decks * CARDS_PER_DECK)
        watching = state.mode == WATCH
        drawn, left = draw_card(key, state.remaining)
        suit = jnp.where(watching, drawn, 0)
        remaining = jnp.where(watching, left, state.remaining)
        asked = state.cards[state.position - 1]
        reward = jnp.where(watching, 0.0, jnp.where(action == asked, worth, -worth))
        is_new = watching & (jnp.arange(state.cards.size) == state.position)
        cards = jnp.where(is_new, drawn, state.cards)
        position = state.position + jnp.where(watching, 1, -1)
        mode = jnp.where(watching & (remaining.sum() > 0), WATCH, PLAY)
        state = AutoencodeState(cards, position, mode, remaining)
        return jnp.stack([mode, suit]), state, reward, position == 0, jnp.bool_(False)

    def observation_space(self, params: Any) -> Space:
        """Return whether cards are shown, and the suits."""
        return MultiDiscrete(0, np.array([WATCH, SUITS - 1]), (2,))

    def action_space(self, params: Any) -> Space:
        """Return the suits."""
        return Discrete(SUITS)
