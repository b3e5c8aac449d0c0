"""Find pairs of cards that lie face down."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, PyTree

from memorax.environments.memory.cards import CARDS_PER_DECK, KINDS, check_decks, check_kind
from memorax.environments.memory.task import Advance, Task
from memorax.environments.spaces import Discrete, MultiDiscrete, Space

NONE = -1


@struct.dataclass
class ConcentrationState:
    """The state of ``Concentration``.

    Attributes:
        cards: The kind of the card at each place.
        found: Which have been found and lie face up.
        turned: The place of the card that waits for its second; -1 if none does.
        time: Steps since the episode began.
    """

    cards: PyTree
    found: PyTree
    turned: PyTree
    time: PyTree


@dataclass(frozen=True)
class Concentration(Task):
    """Each action turns a card over; two of a kind, one after the other, stay face up.

    Observations are the kinds of the cards in sight, at their places, and the number of kinds where
    a card lies face down; the cards of an attempt are in sight until the next action. A pair earns
    2 / cards. A wrong second card loses 2 / steps of an episode, and a card that is face up already
    1 / steps for each card of the attempt, which it ends. The episode terminates when all lie face
    up, and a time limit ends it after the steps that perfect play may take.

    Attributes:
        num_decks: Decks of 52 cards, up to 1,260.
        kinds: What makes a pair: ``"colors"`` or ``"ranks"``.

    Raises:
        ValueError: If ``num_decks`` is out of its range, or cards of that kind make no pairs.

    Source: Morad et al. 2023, "POPGym", arXiv 2303.01859; sizes as in its package, version 1.0.7.
    """

    num_decks: int = 1
    kinds: str = "ranks"

    def __post_init__(self):
        """Check the fields."""
        check_decks("Concentration.num_decks", self.num_decks)
        check_kind("Concentration.kinds", self.kinds)
        if self._num_cards // KINDS[self.kinds] % 2:
            raise ValueError(
                "Concentration.kinds must be one with an even number of cards of each, got "
                f"{self.kinds!r} with num_decks={self.num_decks}"
            )

    @property
    def _num_cards(self):
        return self.num_decks * CARDS_PER_DECK

    @property
    def _time_limit(self):
        return math.ceil(2 * self._num_cards - self._num_cards / (2 * self._num_cards - 1))

    def begin(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return an episode's first observation and its state."""
        cards = jax.random.permutation(key, jnp.arange(self._num_cards) % KINDS[self.kinds])
        found = jnp.zeros(self._num_cards, bool)
        state = ConcentrationState(cards, found, jnp.int32(NONE), jnp.int32(0))
        return self._show(state, found), state

    def advance(self, key: Array, state: PyTree, action: Array, params: Any) -> Advance:
        """Act once within an episode."""
        turned, places = state.turned, jnp.arange(self._num_cards)
        second = turned != NONE
        attempt = (places == action) | (places == turned)
        known = state.found[action]
        matches = state.cards[action] == state.cards[turned]
        pair = second & ~known & matches & (action != turned)
        over = known | second
        cards_of_attempt = jnp.where(second, 2, 1)
        reward = jnp.where(over, -cards_of_attempt / self._time_limit, 0.0)
        reward = jnp.where(pair, 2 / self._num_cards, reward)
        found = state.found | (pair & attempt)
        observation = self._show(state, state.found | attempt)
        time = state.time + 1
        turned = jnp.where(over, NONE, action).astype(jnp.int32)
        state = ConcentrationState(state.cards, found, turned, time)
        return observation, state, reward, found.all(), time >= self._time_limit

    def _show(self, state, in_sight):
        return jnp.where(in_sight, state.cards, KINDS[self.kinds])

    def render_text(self, state: PyTree, params: Any) -> str:
        """Return the cards in rows of 13: kinds face up, (kind) the one that waits, · face down."""
        places = [
            f" {kind:x} " if found else f"({kind:x})" if place == int(state.turned) else " · "
            for place, (kind, found) in enumerate(
                zip(np.asarray(state.cards).tolist(), np.asarray(state.found), strict=True)
            )
        ]
        rows = (places[start : start + 13] for start in range(0, len(places), 13))
        return "\n".join("".join(row) for row in rows)

    def observation_space(self, params: Any) -> Space:
        """Return the kinds, and one more for face down, at each place."""
        return MultiDiscrete(0, KINDS[self.kinds], (self._num_cards,))

    def action_space(self, params: Any) -> Space:
        """Return the places."""
        return Discrete(self._num_cards)
