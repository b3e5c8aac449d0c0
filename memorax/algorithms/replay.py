"""The base of algorithms that learn from replayed sequences: act, store, sample and learn."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, PyTree

from memorax.algorithms.acting import (
    Timestep,
    episode_metrics,
    episodes_of,
    first_timestep,
)
from memorax.algorithms.algorithm import Algorithm, Metrics
from memorax.algorithms.configurations import hyperparameters
from memorax.algorithms.return_scale import ReturnScale
from memorax.algorithms.sharding import gather_batch, shard_batch
from memorax.algorithms.transitions import (
    Sequences,
    empty_window,
    move_window,
    take_step,
    vectorize,
    window_to_sequences,
)
from memorax.buffers import ReplaySample, SequenceReplay
from memorax.configurations.replay import ReplayConfig
from memorax.environments import Environment

hyperparameters(ReplayConfig)


@struct.dataclass
class ReplayState:
    """The training state: everything that resuming needs.

    Attributes:
        num_updates: Updates so far.
        learner: The part that gradient steps change, which has ``params``.
        env_state: The environments' state.
        timestep: The networks' next input, not normalised yet.
        carry: The networks' carries before they read it.
        return_scale: The size of returns so far.
        window: The latest steps, the next sequences to be kept.
        replay: The sequences kept.

    Examples:
        >>> q = heads.DiscreteQNetwork(action_dim=2)
        >>> sizes = dict(num_envs=2, num_steps=4, sequence_length=4, learning_starts=16)
        >>> config = DQNConfig(**sizes, batch_size=2)
        >>> agent = DQN(config, env, env_params, network(q), optax.adam(1e-3))
        >>> state = jax.eval_shape(agent.init, key)
        >>> isinstance(state, ReplayState), jax.tree.leaves(state.window)[0].shape[:2]
        (True, (2, 4))
    """

    num_updates: PyTree
    learner: PyTree
    env_state: PyTree
    timestep: PyTree
    carry: PyTree
    return_scale: PyTree
    window: PyTree
    replay: PyTree

    @property
    def params(self) -> PyTree:
        """The networks' parameters."""
        return self.learner.params


class ReplayAlgorithm(Algorithm):
    """The base class of algorithms that learn from a replay of sequences.

    Sequences are kept with the carries that acting had at their first step, so that learning reads
    them from where acting did; as parameters move on these grow old, which ``burn_in_length`` makes
    up for. Episodes meet within a sequence only as they do in acting: ``done`` parts them. A time
    limit bootstraps from the value of the true last observation, which the networks read as a step
    of its own; a termination is worth nothing more. Observations are kept as they were before
    ``NormalizeObservation``, and are normalised by the latest statistics when they are read.

    A subclass calls ``_prepare_replay`` once its networks are known to fit.

    Examples:
        >>> q = heads.DiscreteQNetwork(action_dim=2)
        >>> sizes = dict(num_envs=2, num_steps=4, sequence_length=4, learning_starts=16)
        >>> config = DQNConfig(**sizes, batch_size=2)
        >>> agent = DQN(config, env, env_params, network(q), optax.adam(1e-3))
        >>> isinstance(agent, ReplayAlgorithm), agent.batch_sequences
        (True, 2)
    """

    _raw_envs: Any

    def __init__(self, config: ReplayConfig, env: Environment | Any, env_params: Any):
        super().__init__(config, env, env_params)
        self._envs = vectorize(self.env, config.num_envs)
        self._raw_envs, self._normalize = self._envs.without_normalization()

    def _prepare_replay(self) -> None:
        """Check that the replay fits into memory, without allocating any."""

        def sequence(key):
            timestep, _ = first_timestep(self._raw_envs, self.env_params, key)
            sequences = window_to_sequences(self._empty_window(timestep), timestep)
            return jax.tree.map(lambda leaf: leaf[0], sequences)

        self._sequence = jax.eval_shape(sequence, jax.random.key(0))
        self.check_replay_fits(num_seeds=1)

    def check_replay_fits(self, num_seeds: int) -> None:
        """Raise ``ValueError`` if the replays of so many seeds would not fit into memory."""
        self._replay.check_replay_fits(
            f"{type(self.config).__name__}.buffer_size", self._sequence, num_seeds
        )

    @property
    def _priority_exponent(self) -> Any:
        """Exponent of priorities; ``None``: sequences are drawn uniformly."""
        return None

    @property
    def _normalizes_rewards(self) -> bool:
        """Whether values are learned of rewards divided by the size of returns."""
        return self.config.normalize_rewards

    @property
    def _replay(self) -> SequenceReplay:
        config = self.config
        return SequenceReplay(
            config.num_envs, config.num_sequences, config.batch_size, self._priority_exponent
        )

    @property
    def batch_sequences(self) -> int:
        """Sequences of a gradient step."""
        return self.config.batch_size

    @property
    def replay_bytes(self) -> int:
        """Bytes that the replay of one seed takes."""
        return self._replay.num_bytes(self._sequence)

    def _initial_carry(self) -> PyTree:
        """Return the networks' carries before anything was seen."""
        raise NotImplementedError(f"{type(self).__name__} must implement _initial_carry")

    def _init_learner(self, key: Array, timestep: Timestep) -> Any:
        """Return what gradient steps change, before the first."""
        raise NotImplementedError(f"{type(self).__name__} must implement _init_learner")

    def _choose(self, state: ReplayState, key: Array) -> tuple[PyTree, Array]:
        """Return the networks' next carries, and every environment's action."""
        raise NotImplementedError(f"{type(self).__name__} must implement _choose")

    def _learn(
        self, learner: Any, sample: ReplaySample, key: Array
    ) -> tuple[Any, Array | None, Metrics]:
        """Return the learner after a gradient step, the sequences' priorities, and metrics."""
        raise NotImplementedError(f"{type(self).__name__} must implement _learn")

    def _init(self, key: Array) -> ReplayState:
        """Return the state before the first step."""
        env_key, learner_key = jax.random.split(key)
        timestep, env_state = first_timestep(self._raw_envs, self.env_params, env_key)
        return ReplayState(
            num_updates=jnp.int32(0),
            learner=self._init_learner(learner_key, self._shown(timestep, env_state)),
            env_state=env_state,
            timestep=timestep,
            carry=self._initial_carry(),
            return_scale=ReturnScale.init(self.config.num_envs),
            window=self._empty_window(timestep),
            replay=self._replay.init(self._sequence),
        )

    def _shown(self, timesteps: Timestep, env_state: PyTree) -> Timestep:
        """Return timesteps as networks read them, normalised by the latest statistics."""
        return replace(timesteps, observation=self._normalize(env_state, timesteps.observation))

    def _empty_window(self, timestep: Timestep):
        config = self.config
        return empty_window(
            timestep, self._initial_carry(), config.sequence_length, config.num_steps
        )

    def _update(self, state: ReplayState, key: Array) -> tuple[ReplayState, Metrics]:
        """Act, store the transitions, then learn."""
        act_key, learn_key = jax.random.split(key)
        carry = state.carry
        state, (transitions, episodes) = jax.lax.scan(
            self._act, state, jax.random.split(act_key, self.config.num_steps)
        )
        window = move_window(state.window, transitions, carry)
        ended = transitions.terminated | transitions.truncated
        state = replace(
            state,
            num_updates=optax.safe_increment(state.num_updates),
            return_scale=state.return_scale.update(transitions.reward, ended, self.config.gamma),
            window=window,
            replay=self._replay.add(state.replay, window_to_sequences(window, state.timestep)),
        )
        learn_keys = jax.random.split(learn_key, self.config.gradient_steps)
        state, metrics = jax.lax.scan(self._gradient_step, state, learn_keys)
        metrics = jax.tree.map(jnp.mean, metrics) | episode_metrics(*episodes)
        if self._normalizes_rewards:
            metrics["return_scale"] = state.return_scale.size
        return state, metrics

    def _act(self, state: ReplayState, key: Array):
        """Act once in every environment."""
        action_key, env_key = jax.random.split(key)
        shown = self._shown(state.timestep, state.env_state)
        carry, action = self._choose(replace(state, timestep=shown), action_key)
        state, transition, info = take_step(
            self._raw_envs, self.env_params, env_key, state, carry, action
        )
        return state, (transition, episodes_of(info))

    def _gradient_step(self, state: ReplayState, key: Array) -> tuple[ReplayState, Metrics]:
        """Learn from a batch, once there is enough to draw from; until then metrics are NaN."""
        sample_key, learn_key = jax.random.split(key)
        # Every device draws all indices: the sequences alone are sent, and only once.
        sample = gather_batch(self._replay.sample(state.replay, sample_key))
        sample = replace(sample, sequences=shard_batch(sample.sequences))
        shown = self._shown(sample.sequences.timestep, state.env_state)
        reward = sample.sequences.reward
        if self._normalizes_rewards:
            reward = reward / state.return_scale.size
        sample = replace(sample, sequences=replace(sample.sequences, timestep=shown, reward=reward))

        def learn():
            return self._learn(state.learner, sample, learn_key)

        def wait():
            _, priorities, metrics = jax.eval_shape(learn)
            if priorities is not None:
                priorities = jnp.ones(priorities.shape, priorities.dtype)
            nothing = jax.tree.map(lambda leaf: jnp.full(leaf.shape, jnp.nan, leaf.dtype), metrics)
            return state.learner, priorities, nothing

        started = state.num_updates >= self.config.first_learning_update
        learner, priorities, metrics = jax.lax.cond(started, learn, wait)
        kept = state.replay
        if priorities is not None:
            priorities = gather_batch(priorities)
            kept = self._replay.update_priorities(kept, sample.indices, priorities)
        return replace(state, learner=learner, replay=kept), metrics


def learned_from(sequences: Sequences, burn_in_length: int) -> Sequences:
    """Return the part of sequences after the burn-in, without its carry."""
    return jax.tree.map(lambda leaf: leaf[:, burn_in_length:], replace(sequences, carry=()))
