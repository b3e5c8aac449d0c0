"""Placement of arrays when several devices train together.

Nothing here does anything without a mesh, which is what ``jax.set_mesh`` sets while a program is
traced.
"""

import jax
from jax.sharding import PartitionSpec
from jaxtyping import PyTree

SEEDS = "seeds"
"""The axis of the mesh that seeds are spread over."""
ENVIRONMENTS = "environments"
"""The axis of the mesh that environments and batches are spread over."""


def num_shards() -> int:
    """Return how many devices environments are spread over."""
    return jax.sharding.get_abstract_mesh().shape.get(ENVIRONMENTS, 1)


def is_sharded() -> bool:
    """Return whether environments are spread over more than one device."""
    return num_shards() > 1


def shard_batch(tree: PyTree) -> PyTree:
    """Spread the leading axis of all arrays over the devices."""
    return _constrain(tree, PartitionSpec(ENVIRONMENTS))


def gather_batch(tree: PyTree) -> PyTree:
    """Give all arrays to every device, whole."""
    return _constrain(tree, PartitionSpec())


def _constrain(tree: PyTree, spec: PartitionSpec) -> PyTree:
    return jax.lax.with_sharding_constraint(tree, spec) if is_sharded() else tree
