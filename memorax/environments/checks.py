"""Validation of action spaces, actions and task parameters."""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from memorax.environments.spaces import Discrete, Space
from memorax.validation import unknown_name


def check_action_space(owner: str, space: Space, bounded: bool = False) -> None:
    """Check that a policy can choose actions in a space.

    Args:
        owner: Who is to act, for the message, such as ``"PPO.actor"``.
        space: The action space.
        bounded: Whether its bounds have to be finite.

    Raises:
        ValueError: If there is no action in it, its numbers are integers, or a bound that has to
            be finite is not.
    """
    refused = None
    if isinstance(space, Discrete):
        if space.n < 1:
            refused = "which has no action: there must be at least one"
    else:
        low, high = (
            np.broadcast_to(np.asarray(bound, np.float64), space.shape)
            for bound in (space.low, space.high)
        )
        if not jnp.issubdtype(space.dtype, jnp.floating):
            refused = (
                "whose numbers are integers: make each of them a choice, by Discrete or by "
                "gymnasium.spaces.MultiDiscrete, or declare a floating dtype and round in the task"
            )
        elif not low.size:
            refused = "which has no dimension: there must be at least one"
        elif not (low <= high).all():
            refused = "whose low must not be above high in any dimension"
        elif bounded and not (np.isfinite([low, high]).all() and (low < high).all()):
            refused = (
                "whose bounds must be finite and low below high: give it such bounds, or use an "
                "algorithm with a Gaussian policy"
            )
    if refused:
        # Arrays of many bounds are printed in lines.
        shown = " ".join(str(space).split())
        raise ValueError(f"{owner} cannot act in the action space {shown}, {refused}")


def check_action(task: str, space: Space, action: Any) -> Bool[Array, ""]:
    """Return whether an action lies in its space; where its value is known, it has to.

    An action that passes stays the same number where JAX converts it. An integer of NumPy's
    that is an argument of a compiled or mapped program is out of reach: JAX narrows its 64 bits to
    32 before anything sees it.

    Args:
        task: The task's name.
        space: The action space.
        action: The action of a single copy.

    Raises:
        ValueError: If the action has another shape, is not numeric, not an integer in a discrete
            space, or outside of the space while no program is being compiled.
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
        ValueError: If the action has another shape, is not numeric, not an integer in a discrete
            space, or an integer that JAX would narrow to another.
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


def check_parameters(task: str, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Check the parameters that a user gives a task.

    Args:
        task: The task, as ``"suite::name"``.
        given: The parameters by name.
        defaults: All parameters that there are, with the values they have unless set.

    Raises:
        ValueError: If there is no such parameter, a value is of another kind than the default, or
            it is not finite and neither is infinity the default.
    """
    for name, value in given.items():
        if name not in defaults:
            raise ValueError(unknown_name(f"parameter of {task},", name, defaults))
        _check_kind(f"{task}: {name}", value, defaults[name])
        _check_finite(f"{task}: {name}", value, defaults[name])


def signature_defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the named parameters of a function or a constructor, with their defaults."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind in kinds
    }


def _check_kind(field, value, default):
    if isinstance(default, bool):
        allowed, kind = (bool,), "true or false"
    elif isinstance(default, int):
        allowed, kind = (int,), "an integer"
    elif isinstance(default, float):
        allowed, kind = (int, float), "a number"
    else:
        return
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        raise ValueError(f"{field} must be {kind}, got {value!r}")


def _check_finite(field, value, default):
    if not isinstance(value, float) or math.isfinite(value):
        return
    unbounded = isinstance(default, float) and math.isinf(default)
    if math.isnan(value) or not unbounded:
        raise ValueError(f"{field} must be finite, got {value!r}")
