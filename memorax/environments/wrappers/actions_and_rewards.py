"""Wrappers that change actions or rewards."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, PyTree

from memorax.environments.checks import as_action
from memorax.environments.environment import Environment, Step
from memorax.environments.rewards import changed_reward
from memorax.environments.spaces import Box, Discrete
from memorax.environments.wrappers.base import LARGEST_FLOAT, SMALLEST_FLOAT, Wrapper
from memorax.validation import check_between


class ClipAction(Wrapper):
    """Clip continuous actions to the action space's bounds; discrete ones are unchanged.

    A normal policy exceeds any bounds. The agent still learns from the action that it drew; only
    the environment's input is clipped.

    Examples:
        >>> pendulum, _ = make("memory::StatelessPendulumEasy")
        >>> wrapped = ClipAction(pendulum)
        >>> observation, state = wrapped.reset(key, None)
        >>> observation, state, reward, *_ = wrapped.step(key, state, jnp.array([100.0]), None)
    """

    keeps_observations = True

    def step(self, key: Array, state: PyTree, action: Array, params: Any) -> Step:
        """Act once, within the bounds."""
        space = self.env.action_space(params)
        if isinstance(space, Box):
            action = jnp.clip(as_action(self.name, space, action), space.low, space.high)
        return self.env.step(key, state, action, params)


@struct.dataclass
class PreviousAction:
    """The state of ``StickyAction``.

    Attributes:
        env_state: The wrapped environment's state.
        action: The previous action.
        started: False before an episode's first action.
    """

    env_state: PyTree
    action: PyTree
    started: PyTree


class StickyAction(Wrapper):
    """Repeat the previous action instead of the given one, with a probability.

    The first action of an episode is never replaced.

    Args:
        env: The environment to wrap.
        probability: From 0 to 1.

    Raises:
        ValueError: If the probability is out of its range.

    Source: Machado et al. 2018, arXiv 1709.06009, section 5 (with probability 0.25).

    Examples:
        >>> wrapped = StickyAction(env, probability=0.25)
        >>> observation, state = wrapped.reset(key, params)
        >>> observation, state, reward, *_ = wrapped.step(key, state, action, params)
        >>> reward.shape
        ()
    """

    keeps_state = True
    keeps_observations = True

    def __init__(self, env: Environment, probability: float = 0.25):
        super().__init__(env)
        check_between("StickyAction.probability", probability, 0.0, 1.0)
        self._probability = probability

    def reset(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return the first observation of an episode and the state."""
        observation, env_state = self.env.reset(key, params)
        space = self.env.action_space(params)
        none = jnp.int32(0) if isinstance(space, Discrete) else jnp.zeros(space.shape, space.dtype)
        return observation, PreviousAction(env_state, none, jnp.zeros((), bool))

    def step(self, key: Array, state: PyTree, action: Array, params: Any) -> Step:
        """Act once."""
        step_key, key = jax.random.split(key)
        space = self.env.action_space(params)
        action = as_action(self.name, space, action)
        sticks = state.started & jax.random.bernoulli(key, self._probability)
        if isinstance(space, Discrete):
            # What is no choice always reaches the environment, which refuses it.
            sticks &= space.contains(action)
        action = jnp.where(sticks, state.action, action)
        observation, env_state, reward, terminated, truncated, info = self.env.step(
            step_key, state.env_state, action, params
        )
        action = action.astype(state.action.dtype)
        state = PreviousAction(env_state, action, ~(terminated | truncated))
        return observation, state, reward, terminated, truncated, info


class ScaleReward(Wrapper):
    """Multiply every reward. Reported returns are the task's own.

    Args:
        env: The environment to wrap.
        factor: The factor; above 0 in float32, since 0 or less would change the task.

    Raises:
        ValueError: If the factor is out of its range.

    Examples:
        >>> wrapped = ScaleReward(env, factor=0.5)
        >>> observation, state = wrapped.reset(key, params)
        >>> observation, state, reward, *_ = wrapped.step(key, state, action, params)
        >>> round(float(reward), 2)
        0.0
    """

    keeps_observations = True

    def __init__(self, env: Environment, factor: float):
        super().__init__(env)
        check_between("ScaleReward.factor", factor, SMALLEST_FLOAT, LARGEST_FLOAT)
        self._factor = float(factor)

    def step(self, key: Array, state: PyTree, action: Array, params: Any) -> Step:
        """Act once."""
        observation, state, reward, terminated, truncated, info = self.env.step(
            key, state, action, params
        )
        info = changed_reward(info, reward)
        return observation, state, reward * self._factor, terminated, truncated, info


class ClipReward(Wrapper):
    """Clip every reward to a range. Reported returns are the task's own.

    Args:
        env: The environment to wrap.
        low: Least reward; minus infinity for none.
        high: Greatest reward, above ``low``; infinity for none.

    Raises:
        ValueError: If a bound is not a finite float32 or low is not below high.

    Source: Mnih et al. 2015, doi 10.1038/nature14236 (from -1 to 1).

    Examples:
        >>> wrapped = ClipReward(env, low=0.0, high=0.5)
        >>> observation, state = wrapped.reset(key, params)
        >>> observation, state, reward, *_ = wrapped.step(key, state, action, params)
        >>> float(reward)
        0.004999999888241291
    """

    keeps_observations = True

    def __init__(self, env: Environment, low: float = -1.0, high: float = 1.0):
        super().__init__(env)
        for field, bound, none in (("low", low, -math.inf), ("high", high, math.inf)):
            if bound != none:
                check_between(f"ClipReward.{field}", bound, -LARGEST_FLOAT, LARGEST_FLOAT)
        if not low < high:
            raise ValueError(f"ClipReward.low must be below high, got low={low}, high={high}")
        self._low, self._high = float(low), float(high)

    def step(self, key: Array, state: PyTree, action: Array, params: Any) -> Step:
        """Act once."""
        observation, state, reward, terminated, truncated, info = self.env.step(
            key, state, action, params
        )
        info = changed_reward(info, reward)
        reward = jnp.clip(reward, self._low, self._high)
        return observation, state, reward, terminated, truncated, info
