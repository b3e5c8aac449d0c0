"""Timing of alternatives, interleaved in one process."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax


def medians(alternatives: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Return each alternative's median seconds, after one call each that may compile.

    The alternatives take turns, so that a machine that slows down slows all of them.
    """
    return {
        name: statistics.median(times) for name, times in seconds(alternatives, repeats).items()
    }


def minima(alternatives: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Return each alternative's least seconds: where calls are short, other work only adds."""
    return {name: min(times) for name, times in seconds(alternatives, repeats).items()}


def seconds(alternatives: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Return the seconds of every call of alternatives that take turns, after one call each."""
    for call in alternatives.values():
        jax.block_until_ready(call())
    measured = {name: [] for name in alternatives}
    for _ in range(repeats):
        for name, call in alternatives.items():
            started = time.perf_counter()
            jax.block_until_ready(call())
            measured[name].append(time.perf_counter() - started)
    return measured
