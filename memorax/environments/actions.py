"""How an action that is none is met."""

from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from memorax.environments.spaces import Discrete, Space


def check_action(task: str, space: Space, action: Any) -> Bool[Array, ""]:
    """Return whether an action lies in its space; where its value is known, it has to.

    An action that passes stays the same number where JAX converts it. A whole number of NumPy's
    that is an argument of a compiled or mapped program is out of reach: JAX narrows its 64 bits to
    32 before anything sees it.

    Args:
        task: The task's name.
        space: The action space.
        action: The action of a single copy.

    Raises:
        ValueError: If the action is of another shape, no number, no whole number where one has to
            be chosen, or outside of the space while no program is being compiled.
    """
    allowed = space.contains(as_action(task, space, action))
    if not isinstance(allowed, jax.core.Tracer) and not allowed:
        raise _refused(task, space, action)
    return allowed


def as_action(task: str, space: Space, action: Any, copies: tuple[int, ...] = ()) -> Array:
    """Return an action as an array of its space's shape and kind, whether or not in its bounds.

    Args:
        task: The task's name.
        space: The action space.
        action: The action.
        copies: The axes that lead, if it is that of several copies.

    Raises:
        ValueError: If the action is of another shape, no number, no whole number where one has to
            be chosen, or a whole number that JAX would turn into another.
    """
    if isinstance(action, jax.Array):
        array = action
    else:
        try:
            array = np.asarray(action)
        except ValueError:  # NumPy's own, of lists that are of no shape, does not name the task.
            raise _refused(task, space, action) from None
    shape = copies if isinstance(space, Discrete) else (*copies, *space.shape)
    whole = jnp.issubdtype(array.dtype, jnp.integer)
    number = whole or jnp.issubdtype(array.dtype, jnp.floating)
    if array.shape != shape or not (whole if isinstance(space, Discrete) else number):
        got = f"{array.dtype} of shape {array.shape}" if hasattr(action, "dtype") else repr(action)
        raise _refused(task, space, got)
    narrow = jnp.asarray(array)
    if whole and isinstance(array, np.ndarray) and (array.astype(narrow.dtype) != array).any():
        raise _refused(task, space, action)
    return narrow


def _refused(task: str, space: Space, got: Any) -> ValueError:
    return ValueError(f"{task}: the action must lie in {space}, got {got}")
