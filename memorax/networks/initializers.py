"""Initializers that the field's papers ask for and Flax does not have."""

import math

import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer

from memorax.validation import check_between


def ring(radius_min: float, radius_max: float) -> Initializer:
    """Draw log(-log r) for a decay r whose square is uniform between those of the two radii.

    Complex numbers of modulus r and uniform phase are then uniform over the ring's area.

    Source: Orvieto et al. 2023, arXiv 2303.06349, lemma 3.2.
    """

    def draw(key, shape, dtype=jnp.float32):
        uniform = jax.random.uniform(key, shape, dtype)
        square = uniform * (radius_max**2 - radius_min**2) + radius_min**2
        # A uniform number of exactly 0 on a ring without a hole would be the logarithm of 0.
        square = jnp.clip(square, jnp.finfo(dtype).tiny, 1 - jnp.finfo(dtype).epsneg)
        return jnp.log(-0.5 * jnp.log(square))

    return draw


def log_of_uniform(high: float) -> Initializer:
    """Draw the logarithm of a number that is uniform between 0 and ``high``."""

    def draw(key, shape, dtype=jnp.float32):
        uniform = jax.random.uniform(key, shape, dtype, float(jnp.finfo(dtype).tiny), 1.0)
        return jnp.log(high * uniform)

    return draw


def log_uniform(low: float, high: float) -> Initializer:
    """Draw the logarithm of a number, uniform between the logarithms of the two."""

    def draw(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, math.log(low), math.log(high))

    return draw


def check_ring(config: str, radius_min: float, radius_max: float, phase_max: float) -> None:
    """Raise ``ValueError`` if the fields do not describe a ring inside the unit circle."""
    check_between(f"{config}.radius_min", radius_min, 0.0, 1.0)
    check_between(f"{config}.radius_max", radius_max, 0.0, 1.0)
    if radius_min >= radius_max:
        raise ValueError(
            f"{config}.radius_min must be less than radius_max, got radius_min={radius_min}, "
            f"radius_max={radius_max}"
        )
    check_between(f"{config}.phase_max", phase_max, 0.0, 6.283185307179586)
    if phase_max == 0:
        raise ValueError(f"{config}.phase_max must be positive, got {phase_max}")
