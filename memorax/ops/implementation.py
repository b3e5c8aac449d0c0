"""Implementations of a recurrence."""

from typing import Literal

import jax

from memorax.validation import unknown_name

Implementation = Literal["auto", "sequential", "associative", "chunked"]


def check_implementation(name: str, implementation: str, choices: tuple[str, ...]) -> None:
    """Raise ``ValueError`` if ``implementation`` is not one of the choices."""
    if implementation not in choices:
        raise ValueError(f"{name}: {unknown_name('implementation', implementation, choices)}")


def on_cpu() -> bool:
    """Return whether programs are compiled for a CPU."""
    return jax.default_backend() == "cpu"
