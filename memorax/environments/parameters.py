"""What of a task can be set, and how a user is told what cannot."""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

from memorax.validation import unknown_name

REGISTERING = (
    "register it in a module, gymnasium.register(id='Name-v0', entry_point='module:Class'), and "
    "name it 'gymnasium::module:Name-v0'"
)
"""How a user's own environment gets a name."""


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
    """Return what a function or a constructor can be told by name, with the defaults."""
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
        allowed, kind = (int,), "a whole number"
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
