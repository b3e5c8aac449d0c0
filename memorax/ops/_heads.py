"""Shapes that the recurrences with a matrix state a head share."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float


def check_shapes(name: str, query: Any, key: Any, value: Any, done: Any) -> None:
    """Raise ``ValueError`` if queries, keys, values and ``done`` do not fit together."""
    steps = done.shape
    if query.shape[:2] != steps or query.shape != key.shape or value.shape[:2] != steps:
        raise ValueError(
            f"{name}: query, key (batch, time, groups, key_dim) and value (batch, time, heads, "
            f"value_dim) must lead with the shape of done, {steps}, got {query.shape}, "
            f"{key.shape} and {value.shape}"
        )
    if 0 in steps:
        raise ValueError(f"{name} needs at least one row and step, got {steps}")
    heads, groups = value.shape[2], query.shape[2]
    if heads % groups:
        raise ValueError(
            f"{name}: heads must be divisible by groups, got {heads} heads and {groups} groups"
        )


def check_shape(name: str, part: str, values: Any, *allowed: tuple[int, ...]) -> None:
    """Raise ``ValueError`` if the shape of ``values`` is not one of those allowed."""
    if values.shape not in allowed:
        raise ValueError(
            f"{name}: {part} must have shape {' or '.join(map(str, allowed))}, got {values.shape}"
        )


def per_head(
    values: Float[Array, "*axes groups dim"], heads: int
) -> Float[Array, "*axes heads dim"]:
    """Repeat the values of each group for its heads."""
    repeats = heads // values.shape[-2]
    return values if repeats == 1 else jnp.repeat(values, repeats, axis=-2)
