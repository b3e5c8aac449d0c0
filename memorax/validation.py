"""Checks that every part shares, and the sentences they fail with."""

import difflib
import sys
from collections.abc import Iterable
from typing import Any

LARGEST = 2**31 - 1
"""Integers are counted in 32 bits on the devices."""


def check_positive(field: str, value: Any) -> None:
    """Raise ``ValueError`` if ``value`` is not an integer from 1 to ``LARGEST``."""
    check_integer(field, value, 1)


def check_integer(field: str, value: Any, low: int, high: int | None = None) -> None:
    """Raise ``ValueError`` if ``value`` is not an integer in the range, both ends allowed.

    Without ``high``, it is ``LARGEST``.
    """
    whole = isinstance(value, int) and not isinstance(value, bool)
    most = LARGEST if high is None else high
    if not whole or not low <= value <= most:
        too_low = high is None and not (whole and value > most)
        allowed = f"of at least {low}" if too_low else f"from {low} to {most}"
        raise ValueError(f"{field} must be an integer {allowed}, got {value!r}")


def check_between(field: str, value: Any, low: float, high: float = float("inf")) -> None:
    """Raise ``ValueError`` if it is not a finite number from ``low`` to ``high``, both allowed.

    A tracer of JAX passes if it is a real scalar: its value is not known yet.
    """
    if getattr(value, "shape", None) == () and value.dtype.kind in "fiu":
        # Importing JAX takes a while, and who brings an array has done so.
        from jax.core import Tracer  # noqa: PLC0415

        if isinstance(value, Tracer):
            return
        value = value.item()
    number = isinstance(value, int | float) and not isinstance(value, bool)
    most = sys.float_info.max
    if not number or not max(low, -most) <= value <= min(high, most):
        allowed = f"number from {low:g} to {high:g}"
        if high > most:
            infinite = number and abs(value) > most
            allowed = f"{'finite ' if infinite else ''}number of at least {low:g}"
        raise ValueError(f"{field} must be a {allowed}, got {value!r}")


def check_range(field: str, low: float, high: float) -> None:
    """Raise ``ValueError`` unless it goes from a finite number to a higher one."""
    if not -sys.float_info.max <= low < high <= sys.float_info.max:
        raise ValueError(f"{field} must go from low to high, both finite, got {low} {high}")


def find_name(kind: str, name: str, choices: Iterable[str]) -> str:
    """Return the choice that a name means: case, ``_`` and ``-`` make no difference.

    Raises:
        ValueError: If it means none of them; the closest are named.
    """
    choices = list(choices)
    spelled = {_plain(choice): choice for choice in choices}
    if name in choices:
        return name
    if _plain(name) not in spelled:
        raise ValueError(unknown_name(kind, name, choices))
    return spelled[_plain(name)]


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> str:
    """Say that ``name`` is no ``kind``, and which choices come closest, all in one line."""
    choices = sorted(choices)
    closest = difflib.get_close_matches(name, choices, n=3, cutoff=0.4)
    if closest:
        return f"unknown {kind} {name!r}; the closest are: {', '.join(closest)}"
    return f"unknown {kind} {name!r}; choose from: {', '.join(choices)}"
