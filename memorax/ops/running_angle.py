"""Angles that add up over an episode."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from memorax.ops.associative_scan import associative_scan
from memorax.ops.implementation import on_cpu


def running_angle(
    turns: Float[Array, "batch time ..."],
    done: Bool[Array, "batch time"],
    initial: Float[Array, "batch ..."],
) -> tuple[Float[Array, "batch ..."], Float[Array, "batch time ..."]]:
    """Add up turns from each episode's first step on, modulo a full turn.

    With the angle zero where ``done``: ``angle' = (angle + turn) mod 2 pi``. A sum that is brought
    back at every step keeps its digits, however long the episode.

    Args:
        turns: In radians.
        done: True where an input is the first of a new episode.
        initial: The angle before the first step.

    Returns:
        The last angle, and the angle after each step, from 0 to 2 pi.
    """

    def combine(angle, turn):
        return jnp.mod(angle + turn, 2 * math.pi)

    if not on_cpu() and turns.shape[1] > 1:
        return associative_scan(combine, jnp.mod(turns, 2 * math.pi), done, initial)

    def step(angle, at_time):
        turn, done = at_time
        start = done.reshape(done.shape + (1,) * (angle.ndim - 1))
        angle = combine(jnp.where(start, 0, angle), turn)
        return angle, angle

    over = jnp.swapaxes(turns, 0, 1), jnp.swapaxes(done, 0, 1)
    last, angles = jax.lax.scan(step, initial, over)
    return last, jnp.swapaxes(angles, 0, 1)
