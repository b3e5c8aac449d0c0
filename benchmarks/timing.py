"""Timing of alternatives, interleaved in one process."""

import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax


def medians(
    alternatives: dict[str, Callable[[], Any]],
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Return each alternative's median seconds, after one call each that may compile.

    The alternatives take turns, so that a machine that slows down slows all of them.

    Args:
        alternatives: What to call.
        repeats: Timed calls of each.
        clock: ``time.process_time`` on one core that other work shares: short calls may meet none
            of it, and long ones always do.
    """
    return {
        name: statistics.median(times)
        for name, times in seconds(alternatives, repeats, clock).items()
    }


def minima(alternatives: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Return each alternative's least seconds: where calls are short, other work only adds."""
    return {name: min(times) for name, times in seconds(alternatives, repeats).items()}


def seconds(
    alternatives: dict[str, Callable[[], Any]],
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Return the seconds of every call of alternatives that take turns, after one call each."""
    for call in alternatives.values():
        jax.block_until_ready(call())
    measured = {name: [] for name in alternatives}
    for _ in range(repeats):
        for name, call in alternatives.items():
            started = clock()
            jax.block_until_ready(call())
            measured[name].append(clock() - started)
    return measured


def machine() -> str:
    """Return the processor, its cores, and what computes."""
    cpuinfo, cpu = Path("/proc/cpuinfo"), platform.processor()
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else ():
        if line.startswith("model name"):
            cpu = line.split(":")[1].strip()
            break
    device = jax.devices()[0].device_kind
    return f"{cpu}, {os.cpu_count()} cores, jax {jax.__version__}, {device}"
