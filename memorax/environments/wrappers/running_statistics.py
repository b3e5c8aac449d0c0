"""Mean and deviation of all that copies of an environment have shown so far."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, PyTree

COPIES = "copies"
"""The axis that ``Vectorize`` maps over."""

EPSILON = 1e-8
"""Keeps what has not varied yet from being divided by zero."""

MOST_COUNTED = 2**20
"""How many values of a copy are counted: a sum of many more in float32 loses what it is added."""


@struct.dataclass
class RunningStatistics:
    """Running mean and variance, the same in all copies under ``Vectorize``.

    Attributes:
        mean: The mean.
        squares: The sum of squared distances from the mean.
        count: How many have been seen, at most ``MOST_COUNTED`` of each copy and 2^30 in all; from
            there on the oldest fade.
    """

    mean: PyTree
    squares: PyTree
    count: PyTree

    @classmethod
    def empty(cls, shape: tuple[int, ...]) -> "RunningStatistics":
        """Return empty statistics."""
        zeros = jnp.zeros(shape, jnp.float32)
        return cls(zeros, zeros, jnp.int32(0))

    def updated(self, value: Array, counted: Bool[Array, ""] | bool = True) -> "RunningStatistics":
        """Return the statistics with one value more of each copy (Chan et al. 1983).

        Args:
            value: The value of this copy.
            counted: Whether it counts.
        """
        number = _sum_of_copies(jnp.asarray(counted, jnp.int32))
        distance = jnp.where(counted, value - self.mean, 0)
        shift = _sum_of_copies(distance) / jnp.maximum(number, 1)
        spread = _sum_of_copies(jnp.where(counted, (distance - shift) ** 2, 0))

        most = min(MOST_COUNTED * _sum_of_copies(1), 2**30)
        kept = jnp.minimum(self.count, most - number)
        count = jnp.maximum(kept + number, 1)
        mean = self.mean + shift * (number / count)
        # Taken off the new squares, which are about as small, and not off the sum, that rounds it.
        faded = (self.count - kept) / jnp.maximum(self.count, 1) * self.squares
        squares = self.squares + (spread + shift**2 * (kept / count * number) - faded)
        return RunningStatistics(mean, squares, kept + number)

    def normalize(self, value: Array, clip: float) -> Array:
        """Return the distance from the mean in deviations, clipped."""
        return jnp.clip((value - self.mean) / self.deviation, -clip, clip)

    @property
    def deviation(self) -> Array:
        """The standard deviation, 1 where fewer than two values were seen."""
        variance = self.squares / jnp.maximum(self.count, 1)
        return jnp.where(self.count < 2, 1.0, jnp.sqrt(variance + EPSILON))


def of_all_copies(tree: PyTree) -> PyTree:
    """Return what all copies along the leading axis share, such as their statistics."""
    return jax.tree.map(lambda leaf: leaf[0], tree)


def _sum_of_copies(value: Any) -> Any:
    try:
        return jax.lax.psum(value, COPIES)
    except NameError:
        # A single environment, or copies that are not ``Vectorize``'s.
        return value
