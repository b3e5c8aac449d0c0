"""Count cards and answer how many of one kind were shown."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, PyTree

from memorax.environments.memory.cards import (
    CARDS_PER_DECK,
    KINDS,
    check_decks,
    check_kind,
    full_decks,
    pick_card,
)
from memorax.environments.memory.task import Advance, Task
from memorax.environments.spaces import Discrete, MultiDiscrete, Space


@struct.dataclass
class CountRecallState:
    """The state of ``CountRecall``.

    Attributes:
        query: The kind that is asked for.
        remaining: Number of cards of each kind left to show.
        remaining_queries: Number of cards of each kind left to ask for.
    """

    query: PyTree
    remaining: PyTree
    remaining_queries: PyTree


@dataclass(frozen=True)
class CountRecall(Task):
    """Each step shows a card and asks for a kind; the action is how many of it have been shown.

    Observations are (the kind shown, the kind asked for). A right action earns 1 / (cards - 1), a
    wrong one loses as much. The episode terminates with the last card. What is asked for comes from
    decks of its own.

    Attributes:
        num_decks: Decks of 52 cards, up to 1,260.
        kinds: What is counted: ``"colors"``, ``"suits"`` or ``"ranks"``.

    Raises:
        ValueError: If ``num_decks`` is out of its range, or there is no such kind.

    Source: Morad et al. 2023, "POPGym", arXiv 2303.01859; sizes as in its package, version 1.0.7.
    """

    num_decks: int = 1
    kinds: str = "colors"

    def __post_init__(self):
        """Check the fields."""
        check_decks("CountRecall.num_decks", self.num_decks)
        check_kind("CountRecall.kinds", self.kinds)

    def begin(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return an episode's first observation and its state."""
        decks = full_decks(self.num_decks, KINDS[self.kinds])
        return self._deal(key, decks, decks)

    def advance(self, key: Array, state: PyTree, action: Array, params: Any) -> Advance:
        """Act once within an episode."""
        worth = 1 / (self.num_decks * CARDS_PER_DECK - 1)
        count = self.num_decks * CARDS_PER_DECK // KINDS[self.kinds] - state.remaining[state.query]
        reward = jnp.where(action == count, worth, -worth)
        observation, state = self._deal(key, state.remaining, state.remaining_queries)
        return observation, state, reward, state.remaining.sum() == 0, jnp.bool_(False)

    def _deal(self, key, remaining, remaining_queries):
        numbers = jax.random.bits(key, (2,), jnp.uint32)
        card, remaining = pick_card(numbers[0], remaining)
        query, remaining_queries = pick_card(numbers[1], remaining_queries)
        return jnp.stack([card, query]), CountRecallState(query, remaining, remaining_queries)

    def observation_space(self, params: Any) -> Space:
        """Return the kinds, twice."""
        return MultiDiscrete(0, KINDS[self.kinds] - 1, (2,))

    def action_space(self, params: Any) -> Space:
        """Return the counts, none among them."""
        return Discrete(self.num_decks * CARDS_PER_DECK // KINDS[self.kinds] + 1)
