"""What makes learning from single steps stable: traces, bounded steps and sparse weights.

Source: Elsayed et al. 2024, "Streaming Deep Reinforcement Learning Finally Works", arXiv
2410.14606.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PyTree


def overshooting_bounded_step(
    params: PyTree,
    trace: PyTree,
    td_error: Float[Array, ""],
    step_size: ArrayLike,
    kappa: ArrayLike,
) -> tuple[PyTree, Float[Array, ""]]:
    """Move parameters along a trace, by a step that is not to overshoot the target.

    With z the trace and d the error::

        M = step_size kappa max(|d|, 1) |z|_1
        params' = params + step_size / max(1, M) d z

    Args:
        params: The parameters.
        trace: z, a pytree like them.
        td_error: d.
        step_size: The largest step.
        kappa: The scale of the bound; above 1 the step is shorter.

    Returns:
        The new parameters and the step's size.
    """
    length = sum(jnp.abs(leaf).sum() for leaf in jax.tree.leaves(trace))
    bound = step_size * kappa * jnp.maximum(jnp.abs(td_error), 1.0) * length
    bounded = jnp.asarray(step_size / jnp.maximum(1.0, bound))
    step = bounded * td_error
    return jax.tree.map(lambda leaf, z: leaf + step * z, params, trace), bounded


def decayed_trace(trace: PyTree, gradient: PyTree, decay: ArrayLike) -> PyTree:
    """Return an accumulating trace with one gradient more.

    Args:
        trace: The trace so far.
        gradient: A pytree like it.
        decay: gamma lambda.
    """
    return jax.tree.map(lambda z, g: decay * z + g, trace, gradient)


def sparse_kernels(key: Array, params: PyTree, sparsity: ArrayLike) -> PyTree:
    """Return parameters with new sparse kernels of all dense layers, where ``sparsity`` is above 0.

    Weights are uniform between -1 and 1, divided by the root of the number of inputs. Each unit has
    the share ``sparsity`` of its inputs, rounded up, at weight 0, but keeps one at least.

    Args:
        key: A PRNG key.
        params: Parameters; the matrices called ``kernel`` are drawn again.
        sparsity: The share of zeros.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    keys = jax.random.split(key, len(leaves))

    def draw(key, path, leaf):
        if getattr(path[-1], "key", None) != "kernel" or leaf.ndim != 2:
            return leaf
        weights_key, order_key = jax.random.split(key)
        inputs = leaf.shape[0]
        weights = jax.random.uniform(weights_key, leaf.shape, leaf.dtype, -1.0, 1.0) / inputs**0.5
        order = jax.random.uniform(order_key, leaf.shape).argsort(axis=0).argsort(axis=0)
        num_zeros = jnp.minimum(jnp.ceil(sparsity * inputs), inputs - 1)
        sparse = jnp.where(order < num_zeros, 0, weights)
        return jnp.where(jnp.asarray(sparsity) > 0, sparse, leaf)

    drawn = [draw(key, *leaf) for key, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, drawn)
