"""Scales that values are learned on."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float


class ValueScale(NamedTuple):
    """An increasing function and its inverse.

    Attributes:
        apply: From values to the scale that they are learned on.
        apply_inv: The inverse of ``apply``.

    Examples:
        >>> double = heads.ValueScale(apply=lambda x: 2 * x, apply_inv=lambda x: x / 2)
        >>> double.apply_inv(double.apply(3.0))
        3.0
    """

    apply: Callable[[Array], Array]
    apply_inv: Callable[[Array], Array]


def signed_hyperbolic(values: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
    """Return ``sign(x) (sqrt(|x| + 1) - 1) + 0.001 x``.

    Source: Pohlen et al. 2018, arXiv 1805.11593, section 3.1.
    """
    return jnp.sign(values) * (jnp.sqrt(jnp.abs(values) + 1) - 1) + 1e-3 * values


def signed_parabolic(values: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
    """Return the inverse of ``signed_hyperbolic``.

    Source: Pohlen et al. 2018, arXiv 1805.11593, proposition A.2.
    """
    epsilon = 1e-3
    root = jnp.sqrt(1 + 4 * epsilon * (epsilon + 1 + jnp.abs(values)))
    return jnp.sign(values) * (jnp.square(root / 2 / epsilon - 1 / 2 / epsilon) - 1)


IDENTITY = ValueScale(lambda values: values, lambda values: values)
SIGNED_HYPERBOLIC = ValueScale(signed_hyperbolic, signed_parabolic)
"""The scale of R2D2, which grows like a square root."""
