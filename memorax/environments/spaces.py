"""Spaces of actions and observations."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PyTree


@dataclass(frozen=True)
class Discrete:
    """The integers 0 to n - 1.

    Attributes:
        n: Number of integers.

    Examples:
        >>> space = Discrete(4)
        >>> bool(space.contains(3)), bool(space.contains(4))
        (True, False)
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

    Examples:
        >>> space = Box(low=-1.0, high=1.0, shape=(2,))
        >>> inside, outside = jnp.array([0.5, -0.5]), jnp.array([0.5, 2.0])
        >>> bool(space.contains(inside)), bool(space.contains(outside))
        (True, False)
    """

    low: Any
    high: Any
    shape: tuple[int, ...]
    dtype: Any = jnp.float32

    def contains(self, value: Any) -> Bool[Array, ""]:
        """Return whether every element of ``value`` lies between its bounds; NaN does not."""
        value = jnp.asarray(value)
        return jnp.all((value >= self.low) & (value <= self.high))


@dataclass(frozen=True, eq=False)
class MultiDiscrete(Box):
    """Arrays of categories, each an integer between its bounds.

    A ``Box`` of integers holds quantities. Here 3 is not more than 2, only another category.

    Examples:
        >>> space = MultiDiscrete(low=0, high=np.array([1, 4]), shape=(2,))
        >>> space.sizes.tolist()
        [2, 5]
    """

    dtype: Any = jnp.int32

    @property
    def sizes(self) -> np.ndarray:
        """Number of categories of each element, an integer array of shape ``shape``."""
        low, high = (np.asarray(bound, int) for bound in (self.low, self.high))
        return np.broadcast_to(high - low + 1, self.shape)


Space = Discrete | Box
"""An action is in one of these, an observation in one of them or, if it has several parts, in a
dictionary or tuple of spaces with an array for each, as in dm_env."""


def structure(space: PyTree) -> PyTree:
    """Return the shape and dtype of each array of an observation, without allocating any.

    Args:
        space: A space, or dictionaries and tuples of spaces.
    """

    def array(part: Space) -> jax.ShapeDtypeStruct:
        if isinstance(part, Discrete):
            return jax.ShapeDtypeStruct((), jnp.int32)
        return jax.ShapeDtypeStruct(part.shape, part.dtype)

    return jax.tree.map(array, space)


def flatten(space: PyTree, observation: PyTree) -> Array:
    """Return an observation as one vector: a category one-hot, arrays flattened, all joined.

    Args:
        space: A space, or dictionaries and tuples of spaces.
        observation: An element of it, without a batch.
    """
    parts = jax.tree.leaves(space), jax.tree.leaves(observation)
    return jnp.concatenate([_flatten(part, value) for part, value in zip(*parts, strict=True)])


def _flatten(space: Space, value: Any) -> Array:
    if isinstance(space, Discrete):
        return jax.nn.one_hot(value, space.n)
    return jnp.reshape(value, -1)


def flat_space(space: PyTree) -> Box:
    """Return the space of what ``flatten`` returns."""
    parts = [_flat_space(part) for part in jax.tree.leaves(space)]
    low, high = (
        np.concatenate([np.broadcast_to(getattr(part, bound), part.shape) for part in parts])
        for bound in ("low", "high")
    )
    return Box(low, high, low.shape, jnp.result_type(*(part.dtype for part in parts)))


def _flat_space(space: Space) -> Box:
    if isinstance(space, Discrete):
        return Box(0.0, 1.0, (space.n,))
    low, high = (
        np.broadcast_to(np.asarray(bound), space.shape).reshape(-1)
        for bound in (space.low, space.high)
    )
    return Box(low, high, (math.prod(space.shape),), space.dtype)


MOST_CHOICES = 65_536
"""More combinations than a policy can learn to tell apart, at a number each."""


def flatten_choices(task: str, sizes: Sequence[int]) -> Discrete:
    """Return the space of all combinations of several choices, the last one running fastest.

    ``numpy.unravel_index(action, sizes)`` takes an action of that space apart.

    Args:
        task: The task, as ``"suite::name"``.
        sizes: Number of possibilities of each choice.

    Raises:
        ValueError: If there are more combinations than a policy can choose among.
    """
    combinations = math.prod(sizes)
    if combinations > MOST_CHOICES:
        raise ValueError(
            f"{task} has {combinations:,} combinations of actions to choose among, and at most "
            f"{MOST_CHOICES:,} are supported"
        )
    return Discrete(combinations)
