"""What an action or an observation can be."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp


@dataclass(frozen=True)
class Discrete:
    """The whole numbers 0 to n - 1.

    Attributes:
        n: How many there are.
    """

    n: int


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


Space = Discrete | Box
