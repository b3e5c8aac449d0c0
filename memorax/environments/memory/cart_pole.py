"""Balance a pole of which only a part is seen."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, PyTree

from memorax.environments.memory.task import Advance, Task
from memorax.environments.spaces import Box, Discrete, Space
from memorax.validation import check_between, check_positive

GRAVITY = 9.8
POLE_MASS = 0.1
TOTAL_MASS = 1.1
HALF_LENGTH = 0.5
FORCE = 10.0
SECONDS_PER_STEP = 0.02
FARTHEST = 2.4
STEEPEST = 12 * 2 * math.pi / 360
BOUNDS = 2 * FARTHEST, 2 * STEEPEST
"""Of position and angle in sight."""


@struct.dataclass
class CartPoleState:
    """The state of ``StatelessCartPole`` and ``VelocityOnlyCartPole``.

    Attributes:
        body: Position, its velocity, angle in radians, its velocity, of shape (4,).
        time: Steps since the episode began.
    """

    body: PyTree
    time: PyTree


def move(body: Float[Array, "4"], action: Array) -> Float[Array, "4"]:
    """Return where cart and pole are a step later, by Euler's method.

    Source: Barto, Sutton & Anderson 1983, as Gymnasium's CartPole has it.
    """
    _, velocity, angle, spin = body
    force = jnp.where(action == 1, FORCE, -FORCE)
    moment = POLE_MASS * HALF_LENGTH
    push = (force + moment * spin**2 * jnp.sin(angle)) / TOTAL_MASS
    spin_change = (GRAVITY * jnp.sin(angle) - jnp.cos(angle) * push) / (
        HALF_LENGTH * (4 / 3 - POLE_MASS * jnp.cos(angle) ** 2 / TOTAL_MASS)
    )
    velocity_change = push - moment * spin_change * jnp.cos(angle) / TOTAL_MASS
    change = jnp.stack([velocity, velocity_change, spin, spin_change])
    return body + SECONDS_PER_STEP * change


@dataclass(frozen=True)
class StatelessCartPole(Task):
    """Push a cart left, 0, or right, 1, so that its pole does not fall; velocities are hidden.

    Observations are (position, angle). Each step earns 1 / steps of an episode, the one that fails
    too. The episode terminates beyond 2.4 units or 12 degrees, and a time limit ends it.

    Attributes:
        max_episode_length: Time limit in steps.
        noise_sigma: Standard deviation of the noise of observations, which stay in their space.

    Raises:
        ValueError: If the episode length is not positive, or the noise is negative.

    Source: Morad et al. 2023, "POPGym", arXiv 2303.01859; its package, version 1.0.7, has it as
    ``PositionOnlyCartPole``.
    """

    max_episode_length: int = 200
    noise_sigma: float = 0.0

    def __post_init__(self):
        """Check the fields."""
        name = type(self).__name__
        check_positive(f"{name}.max_episode_length", self.max_episode_length)
        check_between(f"{name}.noise_sigma", self.noise_sigma, 0.0)

    def _observe(self, key, body):
        noise = self.noise_sigma * jax.random.normal(key, (2,))
        bounds = jnp.array(BOUNDS)
        return jnp.clip(body[::2] + noise, -bounds, bounds)

    def begin(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return an episode's first observation and its state."""
        begin_key, noise_key = jax.random.split(key)
        body = jax.random.uniform(begin_key, (4,), minval=-0.05, maxval=0.05)
        # Also where velocities are seen, as in the package.
        first = StatelessCartPole._observe(self, noise_key, body)
        return first, CartPoleState(body, jnp.int32(0))

    def advance(self, key: Array, state: PyTree, action: Array, params: Any) -> Advance:
        """Act once within an episode."""
        body, time = move(state.body, action), state.time + 1
        fallen = (abs(body[0]) > FARTHEST) | (abs(body[2]) > STEEPEST)
        reward = jnp.float32(1 / self.max_episode_length)
        observation = self._observe(key, body)
        limit = time >= self.max_episode_length
        return observation, CartPoleState(body, time), reward, fallen, limit

    def observation_space(self, params: Any) -> Space:
        """Return the space of observations: up to twice the limits of an episode."""
        bounds = jnp.array(BOUNDS)
        return Box(-bounds, bounds, (2,))

    def action_space(self, params: Any) -> Space:
        """Return left and right."""
        return Discrete(2)


@dataclass(frozen=True)
class VelocityOnlyCartPole(StatelessCartPole):
    """``StatelessCartPole`` with the velocities seen instead of position and angle.

    The package's first observation of an episode has position and angle nevertheless, and so has
    this one's.
    """

    def _observe(self, key, body):
        return body[1::2] + self.noise_sigma * jax.random.normal(key, (2,))

    def observation_space(self, params: Any) -> Space:
        """Return the space of observations, which has no bounds."""
        return Box(-jnp.inf, jnp.inf, (2,))
