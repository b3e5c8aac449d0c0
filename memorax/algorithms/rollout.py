"""The base of algorithms that learn from fresh rollouts: act, cut into sequences, and learn."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Int, PyTree

from memorax.algorithms.acting import (
    batch_first,
    episode_metrics,
    first_timestep,
    init_network,
)
from memorax.algorithms.algorithm import Algorithm, Metrics
from memorax.algorithms.configurations import hyperparameters
from memorax.algorithms.schedules import count_skipped_step
from memorax.algorithms.sharding import gather_batch, num_shards, shard_batch
from memorax.configurations.rollout import RolloutConfig

hyperparameters(RolloutConfig)


@struct.dataclass
class RolloutState:
    """The training state: everything that resuming needs.

    Attributes:
        num_updates: Rollouts learned from so far.
        params: The networks' parameters.
        optimizer_state: The optimizer's state.
        env_state: The environments' state.
        timestep: The networks' next input.
        carry: The networks' carries before they read it.

    Examples:
        >>> q = heads.DiscreteQNetwork(action_dim=2)
        >>> config = PQNConfig(num_envs=4, num_steps=8, num_minibatches=2)
        >>> agent = PQN(config, env, env_params, network(q), optax.radam(1e-3))
        >>> state = jax.eval_shape(agent.init, key)
        >>> isinstance(state, RolloutState), state.timestep.done.shape
        (True, (4,))
    """

    num_updates: PyTree
    params: PyTree
    optimizer_state: PyTree
    env_state: PyTree
    timestep: PyTree
    carry: PyTree


class RolloutAlgorithm(Algorithm):
    """The base class of algorithms that learn from fresh rollouts.

    A rollout keeps the carries it began with, and learning reads each environment's sequence from
    there in one pass, in the order it happened. Minibatches are drawn over environments; only if
    no network holds a carry over single steps.

    A subclass calls ``_prepare_rollouts`` once its networks are known to fit.

    Examples:
        >>> q = heads.DiscreteQNetwork(action_dim=2)
        >>> config = PQNConfig(num_envs=4, num_steps=8, num_minibatches=2)
        >>> agent = PQN(config, env, env_params, network(q), optax.radam(1e-3))
        >>> isinstance(agent, RolloutAlgorithm), agent.batch_sequences
        (True, 2)
    """

    config: Any
    optimizer: optax.GradientTransformation

    def _prepare_rollouts(self) -> None:
        """Find out how long the sequences are that are learned from."""
        carry = jax.eval_shape(self._initial_carry)
        self._sequence_length = sequence_length(self.config, carry, self._learns_from_sequences)

    @property
    def _learns_from_sequences(self) -> bool:
        """Whether the loss of a step depends on others, so that steps are never shuffled."""
        return self.config.burn_in_length > 0

    @property
    def batch_sequences(self) -> int:
        """Sequences of a minibatch."""
        return self.steps_per_update // self._sequence_length // self.config.num_minibatches

    @property
    def _networks(self) -> PyTree:
        """The networks, each under the name that its parameters and carry have."""
        raise NotImplementedError(f"{type(self).__name__} must implement _networks")

    def _rollout(self, state: Any, key: Array) -> tuple[Any, Any]:
        """Act; return the next state, and the rollout with its ``episodes``."""
        raise NotImplementedError(f"{type(self).__name__} must implement _rollout")

    def _sequences(self, state: Any, next_state: Any, rollout: Any) -> Any:
        """Return what the loss reads of a rollout, all of it leading with the sequences."""
        raise NotImplementedError(f"{type(self).__name__} must implement _sequences")

    def _loss(self, params: PyTree, sequences: Any) -> tuple[Array, Metrics]:
        """Return the objective to minimise, and metrics."""
        raise NotImplementedError(f"{type(self).__name__} must implement _loss")

    @property
    def _stops_early(self) -> bool:
        """Whether a minibatch may end an update, see ``_stops``."""
        return False

    def _stops(self, metrics: Metrics) -> Array:
        """Return whether a minibatch is not learned from, nor those after it."""
        raise NotImplementedError(f"{type(self).__name__} must implement _stops")

    def _initial_carry(self) -> PyTree:
        """Return the networks' carries before anything was seen."""
        return jax.tree.map(
            lambda network: network.initialize_carry(self.config.num_envs), self._networks
        )

    def _init(self, key: Array) -> Any:
        """Return the state before the first step."""
        networks, structure = jax.tree.flatten(self._networks)
        env_key, *network_keys = jax.random.split(key, 1 + len(networks))
        timestep, env_state = first_timestep(self._envs, self.env_params, env_key)
        params = [
            init_network(network, network_key, timestep)
            for network, network_key in zip(networks, network_keys, strict=True)
        ]
        params = jax.tree.unflatten(structure, params)
        return RolloutState(
            num_updates=jnp.int32(0),
            params=params,
            optimizer_state=self.optimizer.init(params),
            env_state=env_state,
            timestep=timestep,
            carry=self._initial_carry(),
        )

    def _update(self, state: Any, key: Array) -> tuple[Any, Metrics]:
        """Act, then learn."""
        act_key, learn_key = jax.random.split(key)
        next_state, rollout = self._rollout(state, act_key)
        sequences = self._sequences(state, next_state, rollout)
        params, optimizer_state, metrics = self._learn(state, sequences, learn_key)
        next_state = replace(
            next_state,
            num_updates=optax.safe_increment(state.num_updates),
            params=params,
            optimizer_state=optimizer_state,
        )
        return next_state, metrics | episode_metrics(*rollout.episodes)

    def _learn(self, state: Any, sequences: Any, key: Array) -> tuple[PyTree, PyTree, Metrics]:
        """Run the epochs; return parameters, the optimizer's state and metrics."""
        config, groups = self.config, self.config.minibatch_groups
        group_size = self.steps_per_update // self._sequence_length // groups
        indices = minibatch_indices(
            key, groups, group_size, config.update_epochs, config.num_minibatches
        )
        # Whole groups on every device: each has its part of every minibatch.
        place = gather_batch if groups % num_shards() else shard_batch
        step = partial(self._minibatch_step, place(in_groups(sequences, groups)))
        learner = state.params, state.optimizer_state, jnp.bool_(False)
        (params, optimizer_state, _), (metrics, learned) = jax.lax.scan(step, learner, indices)
        return params, optimizer_state, self._summary(metrics, learned)

    def _minibatch_step(self, sequences: Any, learner: tuple, indices: Array):
        """Learn from a minibatch, unless one before it has ended the update."""
        learn = partial(self._learn_minibatch, sequences, learner, indices)
        if not self._stops_early:
            learner, metrics = learn()
            return learner, (metrics, jnp.float32(1))
        params, optimizer_state, stopped = learner

        def skip():
            _, metrics = jax.eval_shape(learn)
            nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), metrics)
            return (params, count_skipped_step(optimizer_state), stopped), nothing

        learner, metrics = jax.lax.cond(stopped, skip, learn)
        return learner, (metrics, 1.0 - stopped)

    def _learn_minibatch(self, sequences: Any, learner: tuple, indices: Array):
        params, optimizer_state, stopped = learner
        (_, metrics), gradients = jax.value_and_grad(self._loss, has_aux=True)(
            params, take_minibatch(sequences, indices)
        )
        metrics["gradient_norm"] = optax.tree.norm(gradients)
        updates, next_optimizer_state = self.optimizer.update(gradients, optimizer_state, params)
        next_params = optax.apply_updates(params, updates)
        if self._stops_early:
            stopped = self._stops(metrics)
            next_params, next_optimizer_state = jax.tree.map(
                lambda old, new: jnp.where(stopped, old, new),
                (params, count_skipped_step(optimizer_state)),
                (next_params, next_optimizer_state),
            )
        return (next_params, next_optimizer_state, stopped), metrics

    def _summary(self, metrics: Metrics, learned: Array) -> Metrics:
        """Return the means of metrics over the minibatches that were learned from."""
        return jax.tree.map(lambda leaf: jnp.sum(leaf * learned) / jnp.sum(learned), metrics)


def sequence_length(config: Any, carry: PyTree, whole: bool) -> int:
    """Return how long the sequences are that a rollout is learned from: whole, or single steps.

    Without a carry every step stands for itself, so steps may be shuffled as well.

    Args:
        config: With ``num_envs``, ``num_steps``, ``num_minibatches`` and ``minibatch_groups``.
        carry: The networks' carries.
        whole: Whether the loss needs whole sequences even without a carry.

    Raises:
        ValueError: If whole sequences cannot be shared out to the minibatches.
    """
    if not jax.tree.leaves(carry) and not whole:
        return 1
    if config.num_envs % config.num_minibatches:
        raise ValueError(
            f"{type(config).__name__}.num_envs must be divisible by num_minibatches, since "
            f"sequences are never cut, got num_envs={config.num_envs}, "
            f"num_minibatches={config.num_minibatches}"
        )
    if config.num_envs // config.minibatch_groups % config.num_minibatches:
        raise ValueError(
            f"{type(config).__name__}.num_minibatches must divide the environments of each of "
            "minibatch_groups, since sequences are never cut, got "
            f"num_envs={config.num_envs}, minibatch_groups={config.minibatch_groups}, "
            f"num_minibatches={config.num_minibatches}"
        )
    return config.num_steps


def cut_to_sequences(rollout: PyTree, length: int) -> PyTree:
    """Bring (time, envs, ...) to (sequences, length, ...)."""
    return jax.tree.map(
        lambda leaf: leaf.reshape(-1, length, *leaf.shape[2:]), batch_first(rollout)
    )


def in_groups(sequences: PyTree, groups: int) -> PyTree:
    """Bring (sequences, ...) to (groups, sequences of a group, ...)."""
    return jax.tree.map(lambda leaf: leaf.reshape(groups, -1, *leaf.shape[1:]), sequences)


def minibatch_indices(
    key: Array, groups: int, group_size: int, update_epochs: int, num_minibatches: int
) -> Int[Array, "minibatches groups sequences"]:
    """Return which sequences of each group every minibatch holds, each epoch in another order."""
    sequences = jnp.broadcast_to(jnp.arange(group_size), (groups, group_size))
    orders = jax.vmap(lambda key: jax.random.permutation(key, sequences, axis=1, independent=True))(
        jax.random.split(key, update_epochs)
    )
    parts = orders.reshape(update_epochs, groups, num_minibatches, -1)
    return jnp.swapaxes(parts, 1, 2).reshape(update_epochs * num_minibatches, groups, -1)


def take_minibatch(sequences: PyTree, indices: Int[Array, "groups sequences"]) -> PyTree:
    """Return the sequences of a minibatch, shared out to the devices if there are several.

    Args:
        sequences: Leading with (groups, sequences of a group).
        indices: Those of each group that the minibatch holds.
    """
    groups, per_group = indices.shape
    if groups == 1:
        rows = shard_batch(indices[0])
        return shard_batch(jax.tree.map(lambda leaf: leaf[0, rows], sequences))

    def take(leaf):
        taken = jax.vmap(lambda rows, index: rows[index])(leaf, indices)
        return taken.reshape(groups * per_group, *leaf.shape[2:])

    return shard_batch(jax.tree.map(take, sequences))
