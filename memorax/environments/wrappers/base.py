"""Environments around environments, each pure and of one purpose."""

import copy
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, PyTree

from memorax.dtypes import as_before, narrowed, strongly_typed
from memorax.environments.checks import as_action
from memorax.environments.environment import Environment, Frame, Normalize, Step
from memorax.environments.holding import hold
from memorax.environments.rewards import TASK_REWARD, as_reward
from memorax.environments.spaces import Box, Space
from memorax.environments.wrappers.running_statistics import (
    COPIES,
    RunningStatistics,
    of_all_copies,
)
from memorax.validation import check_positive

SMALLEST_FLOAT = float(jnp.finfo(jnp.float32).tiny)
LARGEST_FLOAT = float(jnp.finfo(jnp.float32).max)
"""Observations and rewards are numbers of 32 bits."""


class Wrapper(Environment):
    """Forwards everything to the wrapped environment; a subclass overrides what it changes.

    Args:
        env: The environment to wrap.

    Attributes:
        keeps_state: Whether its state has more than the wrapped environment's, which is then the
            field ``env_state`` of it.
        keeps_observations: Whether observations are those of the wrapped environment, unchanged.

    Raises:
        ValueError: If ``env`` is not an environment.

    Examples:
        >>> class Half(Wrapper):
        ...     def step(self, key, state, action, params):
        ...         step = self.env.step(key, state, action, params)
        ...         return *step[:2], step[2] / 2, *step[3:]
        >>> Half(env).action_space(params) == env.action_space(params)
        True
    """

    keeps_state = False
    keeps_observations = False

    def __init__(self, env: Environment):
        if not isinstance(env, Environment):
            raise ValueError(
                f"{type(self).__name__}.env must be a memorax.environments.Environment, got "
                f"{type(env).__name__}; environments.make returns (environment, parameters)"
            )
        self.env = env

    @property
    def name(self) -> str:
        """The wrapped environment's name."""
        return self.env.name

    def reset(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return the first observation of an episode and the state."""
        return self.env.reset(key, params)

    def step(self, key: Array, state: PyTree, action: Array, params: Any) -> Step:
        """Act once."""
        return self.env.step(key, state, action, params)

    def inner_state(self, state: PyTree) -> PyTree:
        """Return the wrapped environment's part of a state."""
        return state.env_state if self.keeps_state else state

    def for_evaluation(self, state: PyTree) -> Environment:
        """Return the wrapper around the wrapped environment's form for evaluation."""
        return self._around(self.env.for_evaluation(self.inner_state(state)))

    def without_normalization(self) -> tuple[Environment, Normalize]:
        """Return the same around what shows observations before they are normalised, and the rest.

        Raises:
            ValueError: If this wrapper changes observations after they were normalised.
        """
        env, normalize = self.env.without_normalization()
        if env is self.env:
            return self, normalize
        if not self.keeps_observations:
            raise ValueError(
                f"NormalizeObservation must wrap {type(self).__name__} and not be wrapped in it, "
                "since a replay keeps observations as they are before they are normalised; a "
                "wrapper that changes none sets keeps_observations = True"
            )
        return self._around(env), lambda state, observation: normalize(
            self.inner_state(state), observation
        )

    def with_rendering(self) -> Environment:
        """Return the wrapper around the wrapped environment's form for rendering."""
        return self._around(self.env.with_rendering())

    def _around(self, env):
        wrapper = copy.copy(self)
        wrapper.env = env
        return wrapper

    def render_text(self, state: PyTree, params: Any) -> str | None:
        """Return a state as the wrapped environment shows it."""
        return self.env.render_text(self.inner_state(state), params)

    def render_frame(self, state: PyTree, params: Any) -> Frame | None:
        """Return a state as the wrapped environment draws it."""
        return self.env.render_frame(self.inner_state(state), params)

    def observation_space(self, params: Any) -> PyTree:
        """Return the space of observations."""
        return self.env.observation_space(params)

    def action_space(self, params: Any) -> Space:
        """Return the space of actions."""
        return self.env.action_space(params)


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
class EpisodeStatistics:
    """The state of ``RecordEpisodeStatistics``: the wrapped state and the episode so far.

    Attributes:
        env_state: The wrapped environment's state.
        episode_return: The sum of the task's own rewards in the episode, undiscounted.
        changed_return: The sum of the rewards after other wrappers.
        episode_length: The number of the episode's steps.
    """

    env_state: PyTree
    episode_return: PyTree
    changed_return: PyTree
    episode_length: PyTree


class RecordEpisodeStatistics(Wrapper):
    """Add ``episode_return`` and ``episode_length``, up to and with each step, to ``info``.

    The return is that of the task's own rewards. Where a wrapper changes them, such as
    ``ClipReward``, ``episode_changed_return`` is that of the rewards that an agent learns from.

    Examples:
        >>> wrapped = RecordEpisodeStatistics(env)
        >>> observation, state = wrapped.reset(key, params)
        >>> *_, info = wrapped.step(key, state, action, params)
        >>> int(info["episode_length"])
        1
    """

    keeps_state = True
    keeps_observations = True

    def reset(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return the first observation of an episode and the state."""
        observation, env_state = self.env.reset(key, params)
        nothing = jnp.float32(0)
        return observation, EpisodeStatistics(env_state, nothing, nothing, jnp.int32(0))

    def step(self, key: Array, state: PyTree, action: Array, params: Any) -> Step:
        """Act once."""
        observation, env_state, reward, terminated, truncated, info = self.env.step(
            key, state.env_state, action, params
        )
        reward = as_reward(self.name, reward)
        episode_return = state.episode_return + as_reward(self.name, info.get(TASK_REWARD, reward))
        changed_return = state.changed_return + reward
        episode_length = state.episode_length + 1
        if TASK_REWARD in info:
            info = {**info, "episode_changed_return": changed_return}
        info = {**info, "episode_return": episode_return, "episode_length": episode_length}
        ended = terminated | truncated
        state = EpisodeStatistics(
            env_state,
            jnp.where(ended, 0, episode_return),
            jnp.where(ended, 0, changed_return),
            jnp.where(ended, 0, episode_length),
        )
        return observation, state, reward, terminated, truncated, info


@struct.dataclass
class FinalObservation:
    """The state of ``ShowFinalObservation``.

    Attributes:
        env_state: The wrapped environment's state.
        cut_off: bool; true where the latest observation is the last one of a truncated episode.
        observation: The wrapped environment's latest observation, the next episode's first if
            ``cut_off``.
        final_observation: The observation shown last.
    """

    env_state: PyTree
    cut_off: PyTree
    observation: PyTree
    final_observation: PyTree


class ShowFinalObservation(Wrapper):
    """Show the last observation of a truncated episode as an additional step.

    The episode then ends one step later: ``truncated`` is true for an additional step without
    reward, in which the wrapped environment does not move, whatever the action. So a sequence
    contains the observation that the value after a time limit is computed from, at the position
    where a memory reads it. The next observation is the new episode's first. Episodes that
    terminate are unchanged.

    Wrap ``RecordEpisodeStatistics`` in it, not the other way round: the step added is not the
    task's. ``info["episode_ended"]`` is true where the task's own episode ended.

    Examples:
        >>> wrapped = ShowFinalObservation(RecordEpisodeStatistics(env))
        >>> observation, state = wrapped.reset(key, params)
        >>> *_, info = wrapped.step(key, state, action, params)
        >>> bool(info["episode_ended"])
        False
    """

    keeps_state = True
    keeps_observations = True

    def reset(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return the first observation of an episode and the state."""
        observation, env_state = self.env.reset(key, params)
        return observation, FinalObservation(
            env_state, jnp.zeros((), bool), observation, observation
        )

    def step(self, key: Array, state: PyTree, action: Array, params: Any) -> Step:
        """Act once, or only move to the next episode."""
        waiting = state.cut_off
        observation, env_state, reward, terminated, truncated, info = self.env.step(
            key, hold(state.env_state, waiting), action, params
        )

        def unless_waiting(new, old):
            def of_node(new, old):
                # Those of all copies, which have not waited.
                return new if _are_statistics(new) else jnp.where(waiting, old, new)

            return jax.tree.map(of_node, new, old, is_leaf=_are_statistics)

        ended = (terminated | truncated) & ~waiting
        terminated = terminated & ~waiting
        cut_off = ended & ~terminated
        env_state = unless_waiting(env_state, state.env_state)
        observation = unless_waiting(observation, state.observation)
        final_observation = unless_waiting(info["final_observation"], state.final_observation)
        shown = jax.tree.map(
            lambda first, final: jnp.where(cut_off, final, first), observation, final_observation
        )
        info = {**info, "final_observation": final_observation, "episode_ended": ended}
        state = FinalObservation(env_state, cut_off, observation, final_observation)
        return shown, state, jnp.where(waiting, 0.0, reward), terminated, waiting, info


def _are_statistics(node: Any) -> bool:
    return isinstance(node, RunningStatistics)


class Vectorize(Wrapper):
    """Run independent copies in parallel; every array gets a leading axis of ``num_envs``.

    They share only running statistics, such as those of ``NormalizeObservation``.

    Dtypes never change from step to step, whatever the wrapped environment's do: those of a state
    are those it had before, observations and rewards are numbers of 32 bits at most also where JAX
    computes in 64 (``jax_enable_x64``), and no array's dtype depends on its operands.

    Args:
        env: The environment to copy.
        num_envs: Number of copies.

    Examples:
        >>> wrapped = Vectorize(env, num_envs=3)
        >>> observation, state = jax.eval_shape(wrapped.reset, key, params)
        >>> observation.shape  # of one environment: (2,)
        (3, 2)
    """

    keeps_observations = True

    def __init__(self, env: Environment, num_envs: int):
        check_positive("Vectorize.num_envs", num_envs)
        super().__init__(env)
        self.num_envs = num_envs

    def reset(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return every copy's first observation and state."""
        keys = jax.random.split(key, self.num_envs)
        reset = jax.vmap(self.env.reset, in_axes=(0, None), axis_name=COPIES)
        observation, state = reset(keys, params)
        return narrowed(observation), strongly_typed(state)

    def step(self, key: Array, state: PyTree, action: Array, params: Any) -> Step:
        """Act once in every copy."""
        # Here, since JAX narrows what it maps over.
        action = as_action(self.name, self.env.action_space(params), action, (self.num_envs,))
        keys = jax.random.split(key, self.num_envs)
        step = jax.vmap(self.env.step, in_axes=(0, 0, 0, None), axis_name=COPIES)
        observation, next_state, reward, terminated, truncated, info = step(
            keys, state, action, params
        )
        reward = reward.astype(jnp.float32)
        return (
            *(narrowed(observation), as_before(state, next_state), reward),
            *(terminated, truncated, narrowed(info)),
        )

    def without_normalization(self) -> tuple[Environment, Normalize]:
        """Return copies that show observations before they are normalised, and the rest."""
        env, normalize = super().without_normalization()
        return env, lambda state, observation: normalize(of_all_copies(state), observation)
