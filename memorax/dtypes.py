"""Dtypes that stay as they are, whatever an environment or JAX's settings make of numbers."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree


def strongly_typed(tree: PyTree) -> PyTree:
    """Return arrays whose dtype is their own, not one that they give up for another's.

    JAX calls what Python's numbers become weakly typed, such as ``jnp.where(condition, 1, -1)``. A
    program that was compiled for such arrays is compiled again for others of the same dtype.
    """
    return jax.tree.map(_strong, tree)


def narrowed(tree: PyTree) -> PyTree:
    """Return arrays of 64 bits as ones of 32, as JAX makes them without ``jax_enable_x64``."""
    narrow = {"float64": jnp.float32, "int64": jnp.int32, "uint64": jnp.uint32}
    return jax.tree.map(
        lambda leaf: _as(leaf, narrow.get(str(leaf.dtype), leaf.dtype)), strongly_typed(tree)
    )


def as_before(before: PyTree, after: PyTree) -> PyTree:
    """Return arrays as wide as they were before; those of another kind, and keys, as they are."""

    def of_leaf(before, after):
        kinds = jnp.bool_, jnp.signedinteger, jnp.unsignedinteger, jnp.floating, jnp.complexfloating
        # By JAX's kinds: to NumPy, bfloat16 is no floating number.
        alike = any(
            jnp.issubdtype(before.dtype, kind) and jnp.issubdtype(after.dtype, kind)
            for kind in kinds
        )
        return _as(after, before.dtype) if alike else _strong(after)

    return jax.tree.map(of_leaf, before, after)


def in_32_bits(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """Return a function that computes arrays in 32 bits also where JAX computes in 64.

    Packages of environments that are written for 32 bits mix both under ``jax_enable_x64``, which
    JAX refuses.
    """

    @functools.wraps(function)
    def narrow(*args, **kwargs):
        with jax.enable_x64(False):
            # Outside, a number of Python's would become one of 64 bits.
            return jax.tree.map(jnp.asarray, function(*args, **kwargs))

    return narrow


def _strong(leaf: Any) -> Any:
    return leaf if _is_extended(leaf) else _as(leaf, leaf.dtype)


def _as(leaf: Any, dtype: Any) -> Any:
    return leaf if _is_extended(leaf) else jax.lax.convert_element_type(leaf, dtype)


def _is_extended(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.extended)
