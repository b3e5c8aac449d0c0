"""Wrappers that bring observations and rewards to one scale, by statistics that are state.

Statistics are updated at every step and are part of the environment's state, so that they are kept
and resumed with it. Each copy under ``Vectorize`` has its own. An evaluation is held to those of
all copies together, which it does not change, and tells the task's own rewards.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, PyTree

from memorax.environments.environment import Environment, Step
from memorax.environments.observation_wrappers import ObservationWrapper, array_space
from memorax.environments.rewards import changed_reward
from memorax.environments.spaces import Box, Space
from memorax.environments.wrappers import LARGEST_FLOAT, Wrapper
from memorax.validation import check_between

EPSILON = 1e-8
"""Keeps what has not varied yet from being divided by zero."""

MOST_COUNTED = 2**20
"""How many values of a copy are counted: a sum of many more in float32 loses what it is added."""


@struct.dataclass
class RunningStatistics:
    """Mean and variance of what has been seen so far.

    Attributes:
        mean: The mean.
        squares: The sum of squared distances from it.
        count: How many have been seen, at most ``MOST_COUNTED`` of a copy; from there on the
            oldest fade.
    """

    mean: PyTree
    squares: PyTree
    count: PyTree

    @classmethod
    def empty(cls, shape: tuple[int, ...]) -> "RunningStatistics":
        """Return those of nothing."""
        return cls(jnp.zeros(shape), jnp.zeros(shape), jnp.int32(0))

    def updated(self, value: Array) -> "RunningStatistics":
        """Return the statistics with one value more (Welford 1962)."""
        count = jnp.minimum(self.count, MOST_COUNTED - 1) + 1
        from_old = value - self.mean
        mean = self.mean + from_old / count
        # Taken off the new square, which is about as small, and not off the sum, that rounds it.
        faded = (self.count - (count - 1)) / jnp.maximum(self.count, 1) * self.squares
        squares = self.squares + (from_old * (value - mean) - faded)
        return RunningStatistics(mean, squares, count)

    def merged(self) -> "RunningStatistics":
        """Return the statistics of all copies, the leading axis, together (Chan et al. 1983).

        Their count is floating: that of many copies is no whole number of 32 bits.
        """
        counts = self.count.astype(self.mean.dtype)
        count = counts.sum()
        weight = counts.reshape(-1, *[1] * (self.mean.ndim - 1))
        mean = (weight * self.mean).sum(0) / count
        squares = (self.squares + weight * (self.mean - mean) ** 2).sum(0)
        return RunningStatistics(mean, squares, count)

    def normalize(self, value: Array, clip: float) -> Array:
        """Return the distance from the mean in deviations, clipped."""
        return jnp.clip((value - self.mean) / self.deviation, -clip, clip)

    @property
    def deviation(self) -> Array:
        """The standard deviation, 1 where fewer than two values were seen."""
        variance = self.squares / jnp.maximum(self.count, 1)
        return jnp.where(self.count < 2, 1.0, jnp.sqrt(variance + EPSILON))


@struct.dataclass
class Normalized:
    """The state of what normalises.

    Attributes:
        env_state: The wrapped environment's state.
        statistics: Of what has been seen so far.
        discounted_return: The rewards of the episode so far, discounted; of rewards alone.
    """

    env_state: PyTree
    statistics: PyTree
    discounted_return: PyTree


class NormalizeObservation(Wrapper):
    """Shift and scale every element of an observation by its running mean and deviation.

    An episode's last observation enters the statistics, like every other, once.

    Args:
        env: The environment to wrap; its observations are arrays.
        clip: How far a normalised element may be from 0; 10 as in Stable-Baselines3.

    Raises:
        ValueError: If ``clip`` is negative; later, if an observation is a choice.
    """

    keeps_state = True

    def __init__(self, env: Environment, clip: float = 10.0):
        super().__init__(env)
        check_between("NormalizeObservation.clip", clip, 0.0, LARGEST_FLOAT)
        self._clip = float(clip)

    def for_evaluation(self, state: PyTree) -> Environment:
        """Return the same with the statistics that all copies have, for good."""
        env = self.env.for_evaluation(self.inner_state(state))
        return _ObservationNormalizedBy(env, state.statistics.merged(), self._clip)

    def reset(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return the first observation of an episode and the state."""
        observation, env_state = self.env.reset(key, params)
        observation = jnp.asarray(observation, jnp.float32)
        statistics = RunningStatistics.empty(observation.shape).updated(observation)
        state = Normalized(env_state, statistics, jnp.float32(0))
        return statistics.normalize(observation, self._clip), state

    def step(self, key: Array, state: PyTree, action: Array, params: Any) -> Step:
        """Act once."""
        observation, env_state, reward, terminated, truncated, info = self.env.step(
            key, state.env_state, action, params
        )
        ended = terminated | truncated
        final_observation = jnp.asarray(info["final_observation"], jnp.float32)
        observation = jnp.asarray(observation, jnp.float32)
        statistics = state.statistics.updated(final_observation)
        of_both = statistics.updated(observation)
        final_observation = statistics.normalize(final_observation, self._clip)
        first_observation = of_both.normalize(observation, self._clip)
        observation = jnp.where(ended, first_observation, final_observation)
        statistics = jax.tree.map(
            lambda both, one: jnp.where(ended, both, one), of_both, statistics
        )
        state = Normalized(env_state, statistics, state.discounted_return)
        info = {**info, "final_observation": final_observation}
        return observation, state, reward, terminated, truncated, info

    def observation_space(self, params: Any) -> Space:
        """Return the space of clipped observations."""
        space = array_space("NormalizeObservation", self.env.observation_space(params))
        return Box(-self._clip, self._clip, space.shape, jnp.float32)


class _ObservationNormalizedBy(ObservationWrapper):
    """Shifts and scales by statistics that stay as they are."""

    def __init__(self, env: Environment, statistics: RunningStatistics, clip: float):
        super().__init__(env)
        self._statistics, self._clip = statistics, clip

    def observe(self, key: Array, observation: PyTree, params: Any) -> PyTree:
        """Return the observation, normalised."""
        return self._statistics.normalize(jnp.asarray(observation, jnp.float32), self._clip)

    def observation_space(self, params: Any) -> Space:
        """Return the space of clipped observations."""
        space: Any = self.env.observation_space(params)
        return Box(-self._clip, self._clip, space.shape, jnp.float32)


class NormalizeReward(Wrapper):
    """Divide every reward by the running deviation of the discounted return, without a shift.

    Reported returns are the task's own, and an evaluation shows networks that read the previous
    reward what training has shown them.

    Args:
        env: The environment to wrap.
        gamma: The discount of the return, that of the algorithm.
        clip: How far a normalised reward may be from 0; 10 as in Stable-Baselines3.

    Raises:
        ValueError: If a value is out of its range.

    Source: Engstrom et al. 2020, arXiv 2005.12729, section 3.
    """

    keeps_state = True

    def __init__(self, env: Environment, gamma: float = 0.99, clip: float = 10.0):
        super().__init__(env)
        check_between("NormalizeReward.gamma", gamma, 0.0, 1.0)
        check_between("NormalizeReward.clip", clip, 0.0, LARGEST_FLOAT)
        self._gamma, self._clip = float(gamma), float(clip)

    def for_evaluation(self, state: PyTree) -> Environment:
        """Return the same with the statistics that all copies have, for good."""
        env = self.env.for_evaluation(self.inner_state(state))
        return _RewardNormalizedBy(env, state.statistics.merged(), self._clip)

    def reset(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return the first observation of an episode and the state."""
        observation, env_state = self.env.reset(key, params)
        return observation, Normalized(env_state, RunningStatistics.empty(()), jnp.float32(0))

    def step(self, key: Array, state: PyTree, action: Array, params: Any) -> Step:
        """Act once."""
        observation, env_state, reward, terminated, truncated, info = self.env.step(
            key, state.env_state, action, params
        )
        discounted_return = self._gamma * state.discounted_return + reward
        statistics = state.statistics.updated(discounted_return)
        info = changed_reward(info, reward)
        reward = jnp.clip(reward / statistics.deviation, -self._clip, self._clip)
        discounted_return = jnp.where(terminated | truncated, 0.0, discounted_return)
        state = Normalized(env_state, statistics, discounted_return)
        return observation, state, reward, terminated, truncated, info


class _RewardNormalizedBy(Wrapper):
    """Divides rewards by a deviation that stays as it is."""

    def __init__(self, env: Environment, statistics: RunningStatistics, clip: float):
        super().__init__(env)
        self._deviation, self._clip = statistics.deviation, clip

    def step(self, key: Array, state: PyTree, action: Array, params: Any) -> Step:
        """Act once."""
        observation, state, reward, terminated, truncated, info = self.env.step(
            key, state, action, params
        )
        info = changed_reward(info, reward)
        reward = jnp.clip(reward / self._deviation, -self._clip, self._clip)
        return observation, state, reward, terminated, truncated, info
