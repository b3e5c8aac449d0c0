"""Weights whose sums are kept, so that a draw in proportion to them takes logarithmic time.

A tree is one array. Node 1 is the root, nodes ``2 i`` and ``2 i + 1`` are the children of node
``i``, and the second half of the array are the leaves, whose number is a power of two. Every inner
node is the sum of its two children as float32 rounds it, never a running sum, so it is positive
exactly where one of them is.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

LEAST_WEIGHT = float(jnp.finfo(jnp.float32).tiny)
"""The least positive weight: smaller ones may be rounded to 0."""


def tree_size(num_leaves: int) -> int:
    """Return the nodes of a tree of at least so many leaves, the unused node 0 included."""
    return 2 << (num_leaves - 1).bit_length()


def init_tree(num_leaves: int) -> Float[Array, " nodes"]:
    """Return a tree of at least so many leaves, all of weight 0."""
    return jnp.zeros(tree_size(num_leaves), jnp.float32)


def total_weight(tree: Float[Array, " nodes"]) -> Float[Array, ""]:
    """Return the sum of all weights."""
    return tree[1]


def get_weights(tree: Float[Array, " nodes"], leaves: Int[Array, "batch"]) -> Float[Array, "batch"]:
    """Return the weights of leaves."""
    return tree[tree.shape[0] // 2 + leaves]


def set_weights(
    tree: Float[Array, " nodes"], leaves: Int[Array, "batch"], weights: Float[Array, "batch"]
) -> Float[Array, " nodes"]:
    """Set the weights of leaves, and the sums above them.

    Args:
        tree: The tree.
        leaves: Which leaves; one that is given twice gets either weight.
        weights: 0, or at least ``LEAST_WEIGHT``, and with a finite sum.
    """

    def sum_children(_, tree_and_nodes):
        tree, nodes = tree_and_nodes
        nodes = nodes // 2
        return tree.at[nodes].set(tree[2 * nodes] + tree[2 * nodes + 1]), nodes

    nodes = tree.shape[0] // 2 + leaves
    tree = tree.at[nodes].set(weights)
    return jax.lax.fori_loop(0, _depth(tree), sum_children, (tree, nodes))[0]


def draw_leaves(
    tree: Float[Array, " nodes"], fractions: Float[Array, "batch"]
) -> Int[Array, "batch"]:
    """Return the leaves at fractions of the total weight: uniform ones draw by weight.

    The descent turns right only where the right child is positive, and left only where the left one
    is: left of a positive node whose right child is 0, or where what is left of the fraction, which
    is not negative, is below the left child. Hence a leaf of weight 0 is never returned while there
    is another, however sums and fractions are rounded.

    Args:
        tree: The tree; at least one weight is positive.
        fractions: From 0 to 1, both included.
    """

    def descend(_, remainder_and_nodes):
        remainder, nodes = remainder_and_nodes
        left, right = tree[2 * nodes], tree[2 * nodes + 1]
        turns_right = (right > 0) & (remainder >= left)
        return jnp.where(turns_right, remainder - left, remainder), 2 * nodes + turns_right

    start = fractions * total_weight(tree), jnp.ones(fractions.shape, jnp.int32)
    _, nodes = jax.lax.fori_loop(0, _depth(tree), descend, start)
    return nodes - tree.shape[0] // 2


def _depth(tree: Float[Array, " nodes"]) -> int:
    return tree.shape[0].bit_length() - 2
