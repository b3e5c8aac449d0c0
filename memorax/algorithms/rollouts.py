"""What algorithms that learn from fresh rollouts share: sequences, and minibatches of them."""

from typing import Any

import jax
from jaxtyping import Array, Int, PyTree

from memorax.algorithms.acting import batch_first
from memorax.algorithms.sharding import shard_batch


def check_minibatches(config: Any) -> None:
    """Raise ``ValueError`` if a rollout's steps cannot be shared out to the minibatches."""
    if config.num_envs * config.num_steps % config.num_minibatches:
        raise ValueError(
            f"{type(config).__name__}.num_envs * num_steps must be divisible by num_minibatches, "
            f"got num_envs={config.num_envs}, num_steps={config.num_steps}, "
            f"num_minibatches={config.num_minibatches}"
        )


def rollout_sequence_length(config: Any, carry: PyTree) -> int:
    """Return how long the sequences are that a rollout is learned from: whole, or single steps.

    Without a carry every step stands for itself, so steps may be shuffled as well.

    Args:
        config: With ``num_envs``, ``num_steps``, ``num_minibatches`` and ``burn_in_length``.
        carry: The networks' carries.

    Raises:
        ValueError: If whole sequences cannot be shared out to the minibatches.
    """
    if not jax.tree.leaves(carry) and not config.burn_in_length:
        return 1
    if config.num_envs % config.num_minibatches:
        raise ValueError(
            f"{type(config).__name__}.num_envs must be divisible by num_minibatches, since "
            f"sequences are never cut, got num_envs={config.num_envs}, "
            f"num_minibatches={config.num_minibatches}"
        )
    return config.num_steps


def cut_to_sequences(rollout: PyTree, length: int) -> PyTree:
    """Bring (time, envs, ...) to (sequences, length, ...)."""
    return jax.tree.map(
        lambda leaf: leaf.reshape(-1, length, *leaf.shape[2:]), batch_first(rollout)
    )


def minibatch_indices(
    key: Array, num_sequences: int, update_epochs: int, num_minibatches: int
) -> Int[Array, "minibatches sequences"]:
    """Return which sequences each minibatch of all epochs holds, each epoch in another order."""
    keys = jax.random.split(key, update_epochs)
    orders = jax.vmap(lambda key: jax.random.permutation(key, num_sequences))(keys)
    return orders.reshape(update_epochs * num_minibatches, -1)


def take_minibatch(sequences: PyTree, indices: Int[Array, " sequences"]) -> PyTree:
    """Return the sequences of a minibatch, shared out to the devices if there are several."""
    indices = shard_batch(indices)
    return shard_batch(jax.tree.map(lambda leaf: leaf[indices], sequences))
