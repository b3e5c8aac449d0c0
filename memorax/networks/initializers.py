"""Initializers that the field's papers ask for and Flax does not have."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from memorax.validation import check_between

Initializer = Callable[..., Array]
"""A function of a key, a shape and a dtype."""

SMALLEST_DRAW = 1e-6
"""Of a uniform number between 0 and 1 whose logarithm is taken."""


def ring_nu_log(r_min: float, r_max: float) -> Initializer:
    """Draw nu_log of r = exp(-exp(nu_log)) so that the squares of r are uniform.

    Complex numbers of modulus r and uniform phase are then uniform over the ring's area.

    Source: Orvieto et al. 2023, arXiv 2303.06349, lemma 3.2.
    """
    low, high = r_min**2, r_max**2

    def draw(key, shape, dtype=jnp.float32):
        # 1 - r^2, for where r rounds to 1 it still tells the states apart.
        lost = (1 - high) + (high - low) * _draw_above_zero(key, shape, dtype)
        nu = -0.5 * jnp.log1p(-jnp.minimum(lost, 1 - SMALLEST_DRAW))
        return jnp.log(nu).astype(dtype)

    return draw


def ring_theta_log(max_phase: float) -> Initializer:
    """Draw the logarithm of a phase that is uniform between 0 and ``max_phase``."""

    def draw(key, shape, dtype=jnp.float32):
        return jnp.log(max_phase * _draw_above_zero(key, shape, dtype)).astype(dtype)

    return draw


def log_uniform(low: float, high: float) -> Initializer:
    """Draw the logarithm of a number, uniform between the logarithms of the two."""

    def draw(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, math.log(low), math.log(high))

    return draw


def log_of_uniform(low: float, high: float) -> Initializer:
    """Draw the logarithm of a number that is uniform between the two."""

    def draw(key, shape, dtype=jnp.float32):
        return jnp.log(jax.random.uniform(key, shape, dtype, low, high))

    return draw


def inverse_softplus_of_log_uniform(low: float, high: float) -> Initializer:
    """Draw what softplus brings to a number whose logarithm is uniform between the two's.

    Source: the step sizes of Gu and Dao 2023, arXiv 2312.00752, section 3.6.
    """

    def draw(key, shape, dtype=jnp.float32):
        step = jnp.exp(jax.random.uniform(key, shape, dtype, math.log(low), math.log(high)))
        return step + jnp.log(-jnp.expm1(-step))

    return draw


def check_steps_and_decays(config: Any) -> None:
    """Raise ``ValueError`` if a configuration's initial step sizes or decays are invalid."""
    name = type(config).__name__
    check_between(f"{name}.min_step", config.min_step, 1e-4)
    check_between(f"{name}.max_step", config.max_step, config.min_step)
    check_between(f"{name}.min_decay", config.min_decay, 1e-6)
    check_between(f"{name}.max_decay", config.max_decay, config.min_decay)


def chrono_bias(memory_horizon: int | float, sign: int = 1) -> Initializer:
    """Return biases of a gate: log(u), with u spread evenly from 1 to ``memory_horizon - 1``.

    A gate of sigmoid(log(u)) that keeps the state keeps it for about u steps, so that a layer
    begins with memories of every length up to the horizon.

    Args:
        memory_horizon: Steps that the longest memory lasts.
        sign: 1 for a gate that keeps the state, -1 for one that writes to it.

    Source: Tallec and Ollivier 2018, arXiv 1804.11188, section 2, equation 16, which draws u.
    """

    def spread(key, shape, dtype=jnp.float32):
        del key
        # From the longest down, so that a single unit gets that.
        lengths = jnp.linspace(memory_horizon - 1.0, 1.0, shape[-1], dtype=jnp.float32)[::-1]
        return sign * jnp.broadcast_to(jnp.log(lengths), shape).astype(dtype)

    return spread


def check_memory_horizon(config: str, memory_horizon: int | float | None) -> None:
    """Raise ``ValueError`` if the longest memory at first is not at least 2 steps, or ``None``."""
    if memory_horizon is not None:
        check_between(f"{config}.memory_horizon", memory_horizon, 2.0)


def ring_of(memory_horizon: int | float) -> tuple[float, float]:
    """Return the moduli r whose memories last a hundredth of the horizon, and all of it.

    A state of modulus r keeps 1 / e of its value for -1 / log(r) steps.
    """
    return math.exp(-100 / memory_horizon), math.exp(-1 / memory_horizon)


def check_ring(config: str, r_min: float, r_max: float, max_phase: float) -> None:
    """Raise ``ValueError`` if the fields do not describe a ring inside the unit circle."""
    check_between(f"{config}.r_min", r_min, 0.0, 1.0)
    check_between(f"{config}.r_max", r_max, 0.0, 1.0)
    if r_min >= r_max:
        raise ValueError(f"{config}.r_min must be below r_max, got r_min={r_min}, r_max={r_max}")
    check_between(f"{config}.max_phase", max_phase, 0.0, 2 * math.pi)
    if max_phase == 0:
        raise ValueError(
            f"{config}.max_phase must be above 0, for its logarithm is learnt, got {max_phase}"
        )


def _draw_above_zero(key, shape, dtype):
    dtype = jnp.promote_types(dtype, jnp.float32)
    return jax.random.uniform(key, shape, dtype, minval=SMALLEST_DRAW)
