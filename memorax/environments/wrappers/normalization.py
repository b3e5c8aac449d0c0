"""Wrappers that normalise observations and rewards by running statistics in their state.

Statistics are updated at every step and are part of the environment's state, so that they are kept
and resumed with it. All copies under ``Vectorize`` have the same, of what all of them have seen;
copies that are mapped in another way have their own. An evaluation is held to those of training,
which it does not change, and reports the task's own rewards.
"""

from typing import Any

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, PyTree

from memorax.environments.environment import Environment, Normalize, Step
from memorax.environments.holding import Holdable
from memorax.environments.rewards import changed_reward
from memorax.environments.spaces import Box, Space
from memorax.environments.wrappers.base import LARGEST_FLOAT, Wrapper
from memorax.environments.wrappers.observations import ObservationWrapper, array_space
from memorax.environments.wrappers.running_statistics import RunningStatistics, of_all_copies
from memorax.validation import check_between


@struct.dataclass
class Normalized(Holdable):
    """The state of a wrapper that normalises.

    Attributes:
        env_state: The wrapped environment's state.
        statistics: Running statistics.
        discounted_return: The rewards of the episode so far, discounted; of rewards alone.
        held: Whether the next step is ignored, such as one that skips a copy.
    """

    env_state: PyTree
    statistics: PyTree
    discounted_return: PyTree
    held: PyTree


class NormalizeObservation(Wrapper):
    """Shift and scale every element of an observation by its running mean and deviation.

    An episode's last observation enters the statistics, like every other, once.

    Args:
        env: The environment to wrap; its observations are arrays.
        clip: Largest magnitude of a normalised element; 10 as in Stable-Baselines3.

    Raises:
        ValueError: If ``clip`` is negative; later, if an observation is a choice.

    Examples:
        >>> wrapped = Vectorize(NormalizeObservation(env), num_envs=3)
        >>> observation, state = jax.eval_shape(wrapped.reset, key, params)
        >>> observation.shape
        (3, 2)
    """

    keeps_state = True

    def __init__(self, env: Environment, clip: float = 10.0):
        super().__init__(env)
        check_between("NormalizeObservation.clip", clip, 0.0, LARGEST_FLOAT)
        self._clip = float(clip)

    def for_evaluation(self, state: PyTree) -> Environment:
        """Return the same with the statistics that all copies have, for good."""
        env = self.env.for_evaluation(self.inner_state(state))
        return _ObservationNormalizedBy(env, of_all_copies(state.statistics), self._clip)

    def without_normalization(self) -> tuple[Environment, Normalize]:
        """Return what shows observations as they are beside their statistics, and the rest."""

        def normalize(state, observation):
            return self._show(state.statistics, observation)

        return _ObservationAsItIs(self.env, self._clip), normalize

    def _show(self, statistics: RunningStatistics, observation: Array) -> Array:
        return statistics.normalize(observation.astype(jnp.float32), self._clip)

    def reset(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return the first observation of an episode and the state."""
        observation, env_state = self.env.reset(key, params)
        observation = jnp.asarray(observation)
        statistics = RunningStatistics.empty(observation.shape).updated(observation)
        state = Normalized(env_state, statistics, jnp.float32(0), jnp.bool_(False))
        return self._show(statistics, observation), state

    def step(self, key: Array, state: PyTree, action: Array, params: Any) -> Step:
        """Act once."""
        observation, env_state, reward, terminated, truncated, info = self.env.step(
            key, state.env_state, action, params
        )
        ended = terminated | truncated
        final_observation = jnp.asarray(info["final_observation"])
        of_final = state.statistics.updated(final_observation, ~state.held)
        statistics = of_final.updated(observation, ended & ~state.held)
        info = {**info, "final_observation": self._show(of_final, final_observation)}
        observation = self._show(statistics, jnp.asarray(observation))
        state = Normalized(env_state, statistics, state.discounted_return, jnp.bool_(False))
        return observation, state, reward, terminated, truncated, info

    def observation_space(self, params: Any) -> Space:
        """Return the space of clipped observations."""
        space = array_space("NormalizeObservation", self.env.observation_space(params))
        return Box(-self._clip, self._clip, space.shape, jnp.float32)


class _ObservationAsItIs(NormalizeObservation):
    """Keeps the statistics of observations without normalising them."""

    def _show(self, statistics: RunningStatistics, observation: Array) -> Array:
        return observation

    def observation_space(self, params: Any) -> Space:
        """Return the space of observations."""
        return array_space("NormalizeObservation", self.env.observation_space(params))


class _ObservationNormalizedBy(ObservationWrapper):
    """Shifts and scales by fixed statistics."""

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

    Reported returns are the task's own. In an evaluation, networks that read the previous reward
    read it normalised, as in training.

    Args:
        env: The environment to wrap.
        gamma: The discount of the return, that of the algorithm.
        clip: Largest magnitude of a normalised reward; 10 as in Stable-Baselines3.

    Raises:
        ValueError: If a value is out of its range.

    Source: Engstrom et al. 2020, arXiv 2005.12729, section 3.

    Examples:
        >>> wrapped = Vectorize(NormalizeReward(env, gamma=0.99), num_envs=3)
        >>> observation, state = jax.eval_shape(wrapped.reset, key, params)
        >>> observation.shape
        (3, 2)
    """

    keeps_state = True
    keeps_observations = True

    def __init__(self, env: Environment, gamma: float = 0.99, clip: float = 10.0):
        super().__init__(env)
        check_between("NormalizeReward.gamma", gamma, 0.0, 1.0)
        check_between("NormalizeReward.clip", clip, 0.0, LARGEST_FLOAT)
        self._gamma, self._clip = float(gamma), float(clip)

    def for_evaluation(self, state: PyTree) -> Environment:
        """Return the same with the statistics that all copies have, for good."""
        env = self.env.for_evaluation(self.inner_state(state))
        return _RewardNormalizedBy(env, of_all_copies(state.statistics), self._clip)

    def reset(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return the first observation of an episode and the state."""
        observation, env_state = self.env.reset(key, params)
        statistics = RunningStatistics.empty(())
        return observation, Normalized(env_state, statistics, jnp.float32(0), jnp.bool_(False))

    def step(self, key: Array, state: PyTree, action: Array, params: Any) -> Step:
        """Act once."""
        observation, env_state, reward, terminated, truncated, info = self.env.step(
            key, state.env_state, action, params
        )
        discounted_return = self._gamma * state.discounted_return + reward
        statistics = state.statistics.updated(discounted_return, ~state.held)
        info = changed_reward(info, reward)
        reward = jnp.clip(reward / statistics.deviation, -self._clip, self._clip)
        discounted_return = jnp.where(terminated | truncated, 0.0, discounted_return)
        state = Normalized(env_state, statistics, discounted_return, jnp.bool_(False))
        return observation, state, reward, terminated, truncated, info


class _RewardNormalizedBy(Wrapper):
    """Divides rewards by a fixed deviation."""

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
