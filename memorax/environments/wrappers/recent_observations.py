"""Wrappers that show observations of earlier steps."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, PyTree

from memorax.environments.environment import Environment, Step
from memorax.environments.spaces import Discrete, MultiDiscrete
from memorax.environments.wrappers.base import Wrapper
from memorax.environments.wrappers.observations import where
from memorax.validation import check_positive


@struct.dataclass
class RecentObservations:
    """The state of wrappers that show older observations.

    Attributes:
        env_state: The wrapped environment's state.
        recent: The latest observations of the episode, the oldest first, padded with its first.
    """

    env_state: PyTree
    recent: PyTree


class RecentObservationsWrapper(Wrapper):
    """Keeps the latest observations of an episode; subclasses define which are shown."""

    keeps_state = True
    keeps_observations = True

    def __init__(self, env: Environment, length: int):
        super().__init__(env)
        self._length = length

    def _show(self, recent):
        raise NotImplementedError(f"{type(self).__name__} must implement _show")

    def _filled(self, observation):
        return jax.tree.map(lambda leaf: jnp.stack([leaf] * self._length), observation)

    def reset(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return the first observation of an episode and the state."""
        observation, env_state = self.env.reset(key, params)
        recent = self._filled(observation)
        return self._show(recent), RecentObservations(env_state, recent)

    def step(self, key: Array, state: PyTree, action: Array, params: Any) -> Step:
        """Act once."""
        observation, env_state, reward, terminated, truncated, info = self.env.step(
            key, state.env_state, action, params
        )
        recent = jax.tree.map(
            lambda old, new: jnp.concatenate([old[1:], jnp.asarray(new)[None]]),
            state.recent,
            info["final_observation"],
        )
        info = {**info, "final_observation": self._show(recent)}
        recent = where(terminated | truncated, self._filled(observation), recent)
        state = RecentObservations(env_state, recent)
        return self._show(recent), state, reward, terminated, truncated, info


class DelayObservation(RecentObservationsWrapper):
    """Delay observations by some steps; until then, show the episode's first.

    Args:
        env: The environment to wrap.
        num_steps: Delay in steps, at least 1.

    Raises:
        ValueError: If the number is out of its range.

    Examples:
        >>> wrapped = DelayObservation(env, num_steps=2)
        >>> observation, state = wrapped.reset(key, params)
        >>> observation.shape
        (2,)
    """

    def __init__(self, env: Environment, num_steps: int):
        check_positive("DelayObservation.num_steps", num_steps)
        super().__init__(env, num_steps + 1)

    def _show(self, recent):
        return jax.tree.map(lambda leaf: leaf[0], recent)


class StackObservations(RecentObservationsWrapper):
    """Stack the latest observations of the episode along a new first axis.

    Args:
        env: The environment to wrap; its observations are arrays.
        num_observations: Number of observations, the oldest first; at an episode's start its first
            observation is repeated.

    Raises:
        ValueError: If the number is out of its range.

    Source: Mnih et al. 2015, doi 10.1038/nature14236 (4 of them).

    Examples:
        >>> wrapped = StackObservations(env, num_observations=4)
        >>> observation, state = wrapped.reset(key, params)
        >>> observation.shape
        (4, 2)
    """

    def __init__(self, env: Environment, num_observations: int = 4):
        check_positive("StackObservations.num_observations", num_observations)
        super().__init__(env, num_observations)

    def _show(self, recent):
        return recent

    def observation_space(self, params: Any) -> PyTree:
        """Return the space of stacked observations."""

        def stacked(space):
            if isinstance(space, Discrete):
                return MultiDiscrete(0, space.n - 1, (self._length,))
            low, high = (np.broadcast_to(bound, space.shape) for bound in (space.low, space.high))
            return type(space)(low, high, (self._length, *space.shape), space.dtype)

        return jax.tree.map(stacked, self.env.observation_space(params))
