"""The return and the length of every episode."""

from typing import Any

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, PyTree

from memorax.environments.environment import Step
from memorax.environments.rewards import TASK_REWARD, as_reward
from memorax.environments.wrappers.base import Wrapper


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
