"""Sums that keep the digits which rounding takes."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def add(
    total: Float[Array, "..."],
    error: Float[Array, "..."],
    value: Float[Array, "..."],
    done: Bool[Array, "..."],
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Add a value to a running sum that starts again from 0 where ``done``.

    Args:
        total: The sum before the step, rounded.
        error: What rounding has removed from it: the exact sum is ``total + error``.
        value: The summand.
        done: True where the sum starts again.

    Returns:
        The new total and its error.

    Source: Knuth, The Art of Computer Programming, volume 2, section 4.2.2, theorem B.
    """
    total, error = jnp.where(done, 0, total), jnp.where(done, 0, error)
    new = total + value
    rest = new - total
    return new, error + ((total - (new - rest)) + (value - rest))
