"""Swing up a pendulum whose velocity is not seen."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, PyTree

from memorax.environments.memory.task import Advance, Task
from memorax.environments.spaces import Box, Space
from memorax.validation import check_between, check_positive

GRAVITY = 10.0
MOST_TORQUE = 2.0
MOST_SPIN = 8.0
SECONDS_PER_STEP = 0.05
LEAST_REWARD = -16.2736044
"""Of Gymnasium's pendulum: hanging down at full speed and torque."""


@struct.dataclass
class PendulumState:
    """The state of ``StatelessPendulum``.

    Attributes:
        angle: Radians from upright.
        spin: Radians a second.
        time: Steps since the episode began.
    """

    angle: PyTree
    spin: PyTree
    time: PyTree


@dataclass(frozen=True)
class StatelessPendulum(Task):
    """Swing a pendulum upright; its velocity is hidden.

    Observations are (cosine, sine) of the angle, actions the torque. A step earns 1 / steps of an
    episode for standing upright and still, and loses as much at the worst. A time limit ends the
    episode.

    Attributes:
        max_episode_length: Time limit in steps.
        noise_sigma: Standard deviation of the noise of observations, which stay in their space.

    Raises:
        ValueError: If the episode length is not positive, or the noise is negative.

    Source: Morad et al. 2023, "POPGym", arXiv 2303.01859; its package, version 1.0.7, has it as
    ``PositionOnlyPendulum``, on Gymnasium's Pendulum.
    """

    max_episode_length: int = 200
    noise_sigma: float = 0.0

    def __post_init__(self):
        """Check the fields."""
        check_positive("StatelessPendulum.max_episode_length", self.max_episode_length)
        check_between("StatelessPendulum.noise_sigma", self.noise_sigma, 0.0)

    def _observe(self, key, state):
        seen = jnp.stack([jnp.cos(state.angle), jnp.sin(state.angle)])
        return jnp.clip(seen + self.noise_sigma * jax.random.normal(key, (2,)), -1.0, 1.0)

    def begin(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return an episode's first observation and its state."""
        begin_key, noise_key = jax.random.split(key)
        farthest = jnp.array([math.pi, 1.0])
        angle, spin = jax.random.uniform(begin_key, (2,), minval=-farthest, maxval=farthest)
        state = PendulumState(angle, spin, jnp.int32(0))
        return self._observe(noise_key, state), state

    def advance(self, key: Array, state: PyTree, action: Array, params: Any) -> Advance:
        """Act once within an episode."""
        torque = jnp.clip(action[0], -MOST_TORQUE, MOST_TORQUE)
        off = (state.angle + math.pi) % (2 * math.pi) - math.pi
        cost = off**2 + 0.1 * state.spin**2 + 0.001 * torque**2
        reward = (1 - cost / (-LEAST_REWARD / 2)) / self.max_episode_length
        pull = 1.5 * GRAVITY * jnp.sin(state.angle) + 3 * torque
        spin = jnp.clip(state.spin + pull * SECONDS_PER_STEP, -MOST_SPIN, MOST_SPIN)
        angle = state.angle + spin * SECONDS_PER_STEP
        state = PendulumState(angle, spin, state.time + 1)
        limit = state.time >= self.max_episode_length
        return self._observe(key, state), state, reward, jnp.bool_(False), limit

    def observation_space(self, params: Any) -> Space:
        """Return the space of observations."""
        return Box(-1.0, 1.0, (2,))

    def action_space(self, params: Any) -> Space:
        """Return the torques."""
        return Box(-MOST_TORQUE, MOST_TORQUE, (1,))
