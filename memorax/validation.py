"""Checks that every part shares, and the sentences they fail with."""

import difflib
from collections.abc import Iterable
from typing import Any


def check_positive(field: str, value: Any) -> None:
    """Raise ``ValueError`` if ``value`` is not a whole number of at least 1."""
    check_whole(field, value, 1)


def check_whole(field: str, value: Any, low: int, high: int | None = None) -> None:
    """Raise ``ValueError`` if ``value`` is not a whole number in the range, both ends allowed."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        allowed = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{field} must be a whole number {allowed}, got {value!r}")


def check_between(field: str, value: Any, low: float, high: float = float("inf")) -> None:
    """Raise ``ValueError`` if ``value`` is not a number from ``low`` to ``high``, both allowed."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        allowed = f"from {low:g} to {high:g}" if high < float("inf") else f"of at least {low:g}"
        raise ValueError(f"{field} must be a number {allowed}, got {value!r}")


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> str:
    """Say that ``name`` is no ``kind``, and which choices come closest, all in one line."""
    choices = sorted(choices)
    closest = difflib.get_close_matches(name, choices, n=3, cutoff=0.4)
    if closest:
        return f"unknown {kind} {name!r}; the closest are: {', '.join(closest)}"
    return f"unknown {kind} {name!r}; choose from: {', '.join(choices)}"
