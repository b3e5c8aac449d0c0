"""Evaluation on fresh episodes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, ArrayLike, Bool, PyTree

from memorax.algorithms.acting import Timestep, first_timestep
from memorax.environments import RecordEpisodeStatistics, Vectorize
from memorax.environments.environment import Environment

Act = Callable[[Array, Timestep, PyTree], tuple[PyTree, Array]]


@struct.dataclass
class EvaluationReport:
    """Results of an evaluation: arrays with one entry an episode.

    Attributes:
        episode_returns: Sum of the rewards of each episode, undiscounted.
        episode_lengths: Number of steps of each episode.
        completed: False where the limit on steps came before the episode's end; its return and
            length are those up to there.

    Examples:
        >>> returns, lengths = jnp.array([1.0, 0.5]), jnp.array([10, 20])
        >>> report = EvaluationReport(returns, lengths, completed=jnp.array([True, True]))
        >>> float(report.episode_returns.mean())
        0.75
    """

    episode_returns: PyTree
    episode_lengths: PyTree
    completed: PyTree


@struct.dataclass
class EvaluationState:
    """Episodes of an evaluation while they are played.

    Attributes:
        key: The PRNG key of their random numbers.
        report: The report so far.
        timestep: The policy's next input.
        env_state: The environments' state. Those that run in processes are ended by ``release``.
        carry: The policy's.

    Examples:
        >>> config, actor = PPOConfig(num_envs=4, num_steps=8), network(heads.Categorical(2))
        >>> agent = PPO(config, env, env_params, actor, network(heads.VNetwork()), optax.adam(1e-3))
        >>> state = jax.eval_shape(agent.init, key)
        >>> episodes = jax.eval_shape(lambda state: agent.begin_evaluation(key, state, 3), state)
        >>> isinstance(episodes, EvaluationState), episodes.report.episode_returns.shape
        (True, (3,))
    """

    key: PyTree
    report: PyTree
    timestep: PyTree
    env_state: PyTree
    carry: PyTree


def begin(
    carry: PyTree, env: Environment, env_params: Any, key: Array, num_episodes: int
) -> EvaluationState:
    """Begin one episode in each of ``num_episodes`` fresh environments.

    Args:
        carry: The policy's initial carry, its batch ``num_episodes``.
        env: The environment, not vectorised.
        env_params: Its parameters.
        key: A PRNG key.
        num_episodes: Number of episodes.
    """
    reset_key, key = jax.random.split(key)
    timestep, env_state = first_timestep(_copies(env, num_episodes), env_params, reset_key)
    report = EvaluationReport(
        jnp.zeros(num_episodes, jnp.float32),
        jnp.zeros(num_episodes, jnp.int32),
        jnp.zeros(num_episodes, bool),
    )
    return EvaluationState(key, report, timestep, env_state, carry)


def play(
    act: Act,
    env: Environment,
    env_params: Any,
    evaluation: EvaluationState,
    first_step: ArrayLike,
    last_step: ArrayLike,
) -> EvaluationState:
    """Play episodes side by side from one step to another, or until all have ended.

    Every environment counts with its first episode alone, so that short episodes do not count
    more often than long ones.

    Args:
        act: ``(key, timestep, carry) -> (carry, action)``, the action of the timestep's dtype.
        env: The environment, as given to ``begin``.
        env_params: Its parameters.
        evaluation: The episodes.
        first_step: Steps played before. The same for all copies under ``jax.vmap``.
        last_step: The largest number of steps; likewise.
    """
    envs = _copies(env, evaluation.report.completed.shape[0])

    def unfinished(loop):
        step, evaluation = loop
        return (step < last_step) & _any(~evaluation.report.completed)

    def play_step(loop):
        step, evaluation = loop
        report, timestep = evaluation.report, evaluation.timestep
        act_key, step_key = jax.random.split(jax.random.fold_in(evaluation.key, step))
        carry, action = act(act_key, timestep, evaluation.carry)
        observation, env_state, reward, terminated, truncated, info = envs.step(
            step_key, evaluation.env_state, action, env_params
        )
        ended = terminated | truncated
        report = EvaluationReport(
            jnp.where(report.completed, report.episode_returns, info["episode_return"]),
            jnp.where(report.completed, report.episode_lengths, info["episode_length"]),
            report.completed | ended,
        )
        timestep = Timestep(observation, ended, action, reward)
        return step + 1, EvaluationState(evaluation.key, report, timestep, env_state, carry)

    loop = jnp.asarray(first_step, jnp.int32), evaluation
    return jax.lax.while_loop(unfinished, play_step, loop)[1]


def _copies(env: Environment, num_episodes: int) -> Vectorize:
    return Vectorize(RecordEpisodeStatistics(env), num_episodes)


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
