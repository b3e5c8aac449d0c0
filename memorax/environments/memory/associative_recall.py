"""Recall the value that was last written to a key."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, PyTree

from memorax.environments.memory.cards import pick_card, whole_below
from memorax.environments.memory.task import Advance, Task
from memorax.environments.spaces import MOST_CHOICES, Discrete, MultiDiscrete, Space
from memorax.validation import check_integer


@struct.dataclass
class AssociativeRecallState:
    """The state of ``AssociativeRecall``.

    Attributes:
        key: The key in sight.
        is_query: Whether it is asked for.
        values: The latest value of each key, of shape (num_keys,); ``num_values`` before its first.
        writes: How often each key is still to be written, of shape (num_keys,).
        queries: How often each key is still to be asked for, of shape (num_keys,).
    """

    key: PyTree
    is_query: PyTree
    values: PyTree
    writes: PyTree
    queries: PyTree


@dataclass(frozen=True)
class AssociativeRecall(Task):
    """Values are written to keys, each key several times; then the latest value is asked for.

    Observations are (a key, a value). While writing, both are shown and actions have no effect:
    every key is written ``num_writes`` times, all of them in random order, with a random value each
    time. Then every key is asked for ``num_queries`` times in random order: the value shown is
    ``num_values``, which stands for none, and the action names the latest value of the key. A right
    answer earns 1 / (num_keys * num_queries), a wrong one loses as much. The episode terminates
    with the last answer.

    A memory that adds up what is written to a key, as linear attention does, mixes its old values
    with the latest one; one that erases before it writes, as the delta rule does, keeps the latest.

    Attributes:
        num_keys: Number of keys.
        num_values: Number of values, from 2.
        num_writes: How often each key is written; from 2 on, values are overwritten.
        num_queries: How often each key is asked for.

    Raises:
        ValueError: If a number is out of its range, or an episode has too many steps to count.

    Source: Arora et al. 2023, "Zoology", arXiv 2312.04927 (multi-query associative recall); the
    overwriting is ours, after Schlag et al. 2021, "Linear transformers are secretly fast weight
    programmers", arXiv 2102.11174, section 6.1.2.
    """

    num_keys: int = 4
    num_values: int = 4
    num_writes: int = 4
    num_queries: int = 4

    def __post_init__(self):
        """Check the fields."""
        check_integer("AssociativeRecall.num_keys", self.num_keys, 1, MOST_CHOICES)
        check_integer("AssociativeRecall.num_values", self.num_values, 2, MOST_CHOICES - 1)
        # The writes of all keys are drawn from together, as cards are.
        most = MOST_CHOICES // self.num_keys
        for field in ("num_writes", "num_queries"):
            check_integer(f"AssociativeRecall.{field}", getattr(self, field), 1, most)

    @property
    def best_return(self) -> float:
        """The return of a policy that remembers the latest value of each key: 1."""
        return 1.0

    @property
    def memoryless_return(self) -> float:
        """The mean return of every policy without memory: 2 / num_values - 1."""
        return 2 / self.num_values - 1

    def _observe(self, state):
        shown = jnp.where(state.is_query, self.num_values, state.values[state.key])
        return jnp.stack([state.key, shown])

    def begin(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return an episode's first observation and its state."""
        state = AssociativeRecallState(
            key=jnp.int32(0),
            is_query=jnp.bool_(False),
            values=jnp.full(self.num_keys, self.num_values, jnp.int32),
            writes=jnp.full(self.num_keys, self.num_writes, jnp.int32),
            queries=jnp.full(self.num_keys, self.num_queries, jnp.int32),
        )
        return self._show_next(key, state)

    def advance(self, key: Array, state: PyTree, action: Array, params: Any) -> Advance:
        """Act once within an episode."""
        worth = 1 / (self.num_keys * self.num_queries)
        is_right = action == state.values[state.key]
        reward = jnp.where(state.is_query, jnp.where(is_right, worth, -worth), 0.0)
        ended = state.queries.sum() == 0
        observation, state = self._show_next(key, state)
        return observation, state, reward, ended, jnp.bool_(False)

    def _show_next(self, key, state):
        """Write a value to a key or, once all are written, ask for a key."""
        numbers = jax.random.bits(key, (2,), jnp.uint32)
        is_query = state.writes.sum() == 0
        remaining = jnp.where(is_query, state.queries, state.writes)
        place, remaining = pick_card(numbers[0], remaining)
        is_written = ~is_query & (jnp.arange(self.num_keys) == place)
        state = AssociativeRecallState(
            key=place,
            is_query=is_query,
            values=jnp.where(is_written, whole_below(self.num_values, numbers[1]), state.values),
            writes=jnp.where(is_query, state.writes, remaining),
            queries=jnp.where(is_query, remaining, state.queries),
        )
        return self._observe(state), state

    def render_text(self, state: PyTree, params: Any) -> str:
        """Return the keys with their latest values, and what is written or asked for."""
        width = len(str(max(self.num_keys - 1, self.num_values - 1)))
        values = ["·" if value == self.num_values else str(value) for value in state.values]
        rows = {"key": map(str, range(self.num_keys)), "value": values}
        lines = [
            f"{name:<5} " + " ".join(text.rjust(width) for text in row)
            for name, row in rows.items()
        ]
        key = int(state.key)
        shown = f"asks for key {key}" if state.is_query else f"writes {values[key]} to key {key}"
        return "\n".join([*lines, shown])

    def observation_space(self, params: Any) -> Space:
        """Return the keys, and the values with one more for none."""
        return MultiDiscrete(0, np.array([self.num_keys - 1, self.num_values]), (2,))

    def action_space(self, params: Any) -> Space:
        """Return the values."""
        return Discrete(self.num_values)
