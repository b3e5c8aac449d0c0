"""Evaluation on fresh episodes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, PyTree

from memorax.algorithms.acting import Timestep, first_timestep
from memorax.environments import RecordEpisodeStatistics, Vectorize, release
from memorax.environments.environment import Environment

Act = Callable[[Array, Timestep, PyTree], tuple[PyTree, Array]]


@struct.dataclass
class EvaluationReport:
    """What an evaluation saw: arrays with one entry an episode.

    Attributes:
        episode_returns: Sum of the rewards of each episode, undiscounted.
        episode_lengths: Number of steps of each episode.
        completed: False where the limit on steps came before the episode's end; its return and
            length are those up to there.
    """

    episode_returns: PyTree
    episode_lengths: PyTree
    completed: PyTree


def evaluate(
    act: Act,
    carry: PyTree,
    env: Environment,
    env_params: Any,
    key: Array,
    num_episodes: int,
    max_steps: int,
) -> EvaluationReport:
    """Play one episode in each of ``num_episodes`` fresh environments, side by side.

    Every environment counts with its first episode alone, so that short episodes do not count
    more often than long ones.

    Args:
        act: ``(key, timestep, carry) -> (carry, action)``.
        carry: The policy's initial carry, its batch ``num_episodes``.
        env: The environment, not vectorised.
        env_params: Its parameters.
        key: A PRNG key.
        num_episodes: How many episodes.
        max_steps: Where an episode without end is given up.
    """
    envs = Vectorize(RecordEpisodeStatistics(env), num_episodes)
    reset_key, key = jax.random.split(key)
    timestep, env_state = first_timestep(envs, env_params, reset_key)
    report = EvaluationReport(
        jnp.zeros(num_episodes, jnp.float32),
        jnp.zeros(num_episodes, jnp.int32),
        jnp.zeros(num_episodes, bool),
    )

    def unfinished(loop):
        step, report, *_ = loop
        return (step < max_steps) & _any(~report.completed)

    def play(loop):
        step, report, timestep, env_state, carry = loop
        act_key, step_key = jax.random.split(jax.random.fold_in(key, step))
        carry, action = act(act_key, timestep, carry)
        action = action.astype(timestep.action.dtype)
        observation, env_state, reward, terminated, truncated, info = envs.step(
            step_key, env_state, action, env_params
        )
        ended = terminated | truncated
        report = EvaluationReport(
            jnp.where(report.completed, report.episode_returns, info["episode_return"]),
            jnp.where(report.completed, report.episode_lengths, info["episode_length"]),
            report.completed | ended,
        )
        return step + 1, report, Timestep(observation, ended, action, reward), env_state, carry

    _, report, _, env_state, _ = jax.lax.while_loop(
        unfinished, play, (jnp.int32(0), report, timestep, env_state, carry)
    )
    release(env_state)
    return report


@jax.custom_batching.custom_vmap
def _any(flags: Bool[Array, "*flags"]) -> Bool[Array, ""]:
    """Return whether any flag is true, under vmap of any copy: all copies stop together.

    A finished copy goes on until the last one has finished, and its report stays as it is. So
    environments in processes, which JAX cannot step in some copies alone, can be mapped too.
    """
    return jnp.any(flags)


@_any.def_vmap
def _any_of_all_copies(axis_size, in_batched, flags):
    return _any(flags), False
