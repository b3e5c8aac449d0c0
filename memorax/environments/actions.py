"""How an action that is none is met."""

from typing import Any

import jax.core
import jax.numpy as jnp
from jaxtyping import Array, Bool

from memorax.environments.spaces import Discrete, Space


def check_action(task: str, space: Space, action: Any) -> Bool[Array, ""]:
    """Return whether an action lies in its space; where its value is known, it has to.

    Args:
        task: The task's name.
        space: The action space.
        action: The action of a single copy.

    Raises:
        ValueError: If the action is of another shape, no whole number where one has to be chosen,
            or outside of the space while no program is being compiled.
    """
    action = jnp.asarray(action)
    shape = () if isinstance(space, Discrete) else tuple(space.shape)
    whole = jnp.issubdtype(action.dtype, jnp.integer)
    if action.shape != shape or (isinstance(space, Discrete) and not whole):
        raise ValueError(
            f"{task}: the action must lie in {space}, got {action.dtype} of shape {action.shape}"
        )
    allowed = space.contains(action)
    if not isinstance(allowed, jax.core.Tracer) and not allowed:
        raise ValueError(f"{task}: the action must lie in {space}, got {action}")
    return allowed
