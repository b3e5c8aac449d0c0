"""Windows over the last steps of an episode."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped


def episode_age(
    done: Bool[Array, "batch time"], length: Int[Array, " batch"], limit: int
) -> Int[Array, "batch time"]:
    """Count the earlier steps of each step's episode, up to ``limit``.

    Args:
        done: True where an input is the first of a new episode.
        length: Number of steps of the episode before the first input.
        limit: Largest count to return.

    Returns:
        The counts, 0 where an episode begins.
    """
    steps = jnp.arange(done.shape[1], dtype=length.dtype)
    start = running_maximum(jnp.where(done, steps, -length[:, None]))
    return jnp.minimum(steps - start, limit)


def slide_window(
    window: Shaped[Array, "batch *heads length features"],
    values: Float[Array, "batch *heads time features"],
    age: Int[Array, " batch"],
) -> tuple[Array, Array]:
    """Append new steps to a window of the last steps and drop the oldest.

    Args:
        window: Features of the previous steps, oldest first.
        values: Features of the new steps; cast to the window's dtype.
        age: Number of earlier steps in the episode of the last new step.

    Returns:
        The window without its oldest step followed by the values, ``(batch, *heads, length - 1 +
        time, features)``; and the next window, zero where it would reach into an earlier episode.
    """
    length, axis = window.shape[-2], window.ndim - 2
    kept = jax.lax.slice_in_dim(window, 1, length, axis=axis)
    whole = jnp.concatenate([kept, values.astype(window.dtype)], axis=axis)
    last = jax.lax.slice_in_dim(whole, values.shape[axis] - 1, whole.shape[axis], axis=axis)
    in_episode = jnp.arange(length)[::-1] <= age[:, None]
    in_episode = in_episode.reshape(-1, *[1] * (window.ndim - 3), length, 1)
    return whole, jnp.where(in_episode, last, 0)


def running_maximum(values: Int[Array, "batch time"]) -> Int[Array, "batch time"]:
    """Return the largest value up to each step."""
    # Without the barrier XLA spends seconds folding constants where ``done`` is known to be False.
    return jax.lax.cummax(jax.lax.optimization_barrier(values), axis=1)


class Span(NamedTuple):
    """A range of distances, from ``low`` up to but excluding ``high``."""

    low: int
    high: int

    @property
    def size(self) -> int:
        """Number of distances."""
        return self.high - self.low

    def columns(self, block_size: int) -> int:
        """Number of keys that the queries of a block see together."""
        return self.size - 1 + block_size

    def distances(self, block_size: int) -> np.ndarray:
        """Return the distance from each query of a block (rows) back to each key (columns)."""
        rows, columns = np.arange(block_size)[:, None], np.arange(self.columns(block_size))
        return rows + self.high - 1 - columns


def visible_keys(
    age: Int[Array, "batch rows"], spans: tuple[Span, ...]
) -> Bool[Array, "batch rows columns"]:
    """Return which keys of a block each of its queries sees; spans are concatenated."""
    parts = []
    for span in spans:
        distances = span.distances(age.shape[1])
        in_span = (distances >= span.low) & (distances < span.high)
        parts.append(in_span & (distances <= age[..., None]))
    return jnp.concatenate(parts, axis=-1)
