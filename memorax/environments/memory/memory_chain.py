"""Remember a bit for a number of steps."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, PyTree

from memorax.environments.memory.task import Advance, Task
from memorax.environments.spaces import Box, Discrete, Space
from memorax.validation import check_positive


@struct.dataclass
class MemoryChainState:
    """The state of ``MemoryChain``.

    Attributes:
        context: The bit to remember, 1 or -1.
        time: Steps since the episode began.
    """

    context: PyTree
    time: PyTree


@dataclass(frozen=True)
class MemoryChain(Task):
    """A bit is shown first; the last action must equal it. Other actions have no effect.

    Observations are (the share of time that is left, the bit at the first step and 0 at all others,
    whether the next action counts). The right last action earns 1, the wrong one loses 1.

    Attributes:
        memory_length: Steps between the bit and the action that counts.

    Raises:
        ValueError: If ``memory_length`` is not positive.

    Source: Osband et al. 2020, "Behaviour Suite for Reinforcement Learning", arXiv 1908.03568; the
    bit is shown for one step alone.
    """

    memory_length: int = 10

    def __post_init__(self):
        """Check the fields."""
        check_positive("MemoryChain.memory_length", self.memory_length)

    def _observe(self, state):
        left = 1 - state.time / self.memory_length
        shown = jnp.where(state.time == 0, state.context, 0)
        counts = state.time == self.memory_length
        return jnp.stack([jnp.asarray(part, jnp.float32) for part in (left, shown, counts)])

    def begin(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return an episode's first observation and its state."""
        state = MemoryChainState(jnp.where(jax.random.bernoulli(key), 1, -1), jnp.int32(0))
        return self._observe(state), state

    def advance(self, key: Array, state: PyTree, action: Array, params: Any) -> Advance:
        """Act once within an episode."""
        ended = state.time == self.memory_length
        right = jnp.where(action == 1, 1, -1) == state.context
        reward = jnp.where(ended, jnp.where(right, 1.0, -1.0), 0.0)
        # The step after the last one is not shown as a step of its own.
        time = jnp.minimum(state.time + 1, self.memory_length)
        state = MemoryChainState(state.context, time)
        return self._observe(state), state, reward, ended, jnp.bool_(False)

    def observation_space(self, params: Any) -> Space:
        """Return the space of observations."""
        return Box(-1.0, 1.0, (3,))

    def action_space(self, params: Any) -> Space:
        """Return the two answers: 0 for -1, 1 for 1."""
        return Discrete(2)
