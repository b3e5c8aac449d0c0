"""What an action or an observation can be."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool


@dataclass(frozen=True)
class Discrete:
    """The whole numbers 0 to n - 1.

    Attributes:
        n: How many there are.
    """

    n: int

    def contains(self, value: Any) -> Bool[Array, ""]:
        """Return whether ``value`` is one of them."""
        value = jnp.asarray(value)
        return (value >= 0) & (value < self.n)


@dataclass(frozen=True, eq=False)
class Box:
    """Arrays of one shape and dtype, each element between its bounds.

    Attributes:
        low: Lower bounds, broadcastable to ``shape``.
        high: Upper bounds, broadcastable to ``shape``.
        shape: The shape of an element.
        dtype: The dtype of an element.
    """

    low: Any
    high: Any
    shape: tuple[int, ...]
    dtype: Any = jnp.float32

    def contains(self, value: Any) -> Bool[Array, ""]:
        """Return whether every element of ``value`` lies between its bounds; NaN does not."""
        value = jnp.asarray(value)
        return jnp.all((value >= self.low) & (value <= self.high))


Space = Discrete | Box
