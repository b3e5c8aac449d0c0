"""The last observation of an episode that a time limit truncates, as a step of its own."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, PyTree

from memorax.environments.environment import Step
from memorax.environments.holding import hold
from memorax.environments.wrappers.base import Wrapper
from memorax.environments.wrappers.running_statistics import RunningStatistics


@struct.dataclass
class FinalObservation:
    """The state of ``ShowFinalObservation``.

    Attributes:
        env_state: The wrapped environment's state.
        truncated: bool; true where the latest observation is the last one of a truncated episode.
        observation: The wrapped environment's latest observation, the next episode's first if
            ``truncated``.
        final_observation: The observation shown last.
    """

    env_state: PyTree
    truncated: PyTree
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
        waiting = state.truncated
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
        truncated = ended & ~terminated
        env_state = unless_waiting(env_state, state.env_state)
        observation = unless_waiting(observation, state.observation)
        final_observation = unless_waiting(info["final_observation"], state.final_observation)
        shown = jax.tree.map(
            lambda first, final: jnp.where(truncated, final, first), observation, final_observation
        )
        info = {**info, "final_observation": final_observation, "episode_ended": ended}
        state = FinalObservation(env_state, truncated, observation, final_observation)
        return shown, state, jnp.where(waiting, 0.0, reward), terminated, waiting, info


def _are_statistics(node: Any) -> bool:
    return isinstance(node, RunningStatistics)
