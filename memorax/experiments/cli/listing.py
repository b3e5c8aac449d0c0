"""The command ``memorax list``."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from memorax.catalog.algorithms import ALGORITHMS, algorithms_with_head
from memorax.catalog.suites import SUITES
from memorax.experiments.cli.errors import input_checked
from memorax.experiments.cli.parsing import parse
from memorax.experiments.presets import preset
from memorax.experiments.presets.names import ENCODERS, POLICY_HEADS, VALUE_HEADS
from memorax.experiments.presets.torsos import KINDS, TORSOS
from memorax.installed_package import install_command
from memorax.validation import find_name

Row = tuple[str, ...]


@dataclass(frozen=True)
class List:
    """List names, one a line."""

    kind: Annotated[str, tyro.conf.Positional]
    """torsos, algorithms, heads, encoders, environments or presets."""


def run(arguments: list[str]) -> int:
    """Run ``memorax list`` and return its exit code."""
    options = parse(List, "memorax list", arguments)
    with input_checked():
        rows = LISTS[find_name("list", options.kind, LISTS)]
    print("\n".join(in_columns(list(rows()))))
    return 0


def in_columns(rows: Sequence[Row]) -> Iterator[str]:
    """Return rows as lines with their columns aligned, nothing cut and nothing wrapped."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def torsos() -> Iterator[Row]:
    """List every torso with its kind, its cost over time and its paper."""
    yield "torso", "kind", "cost over time", "paper"
    for name, torso in TORSOS.items():
        yield name, torso.kind, KINDS[torso.kind], torso.paper


def algorithms() -> Iterator[Row]:
    """List every algorithm with what it learns from, its actions and its paper."""
    yield "algorithm", "learns from", "actions", "paper"
    for name, algorithm in ALGORITHMS.items():
        yield name, algorithm.kind, " or ".join(algorithm.actions), algorithm.paper


def heads() -> Iterator[Row]:
    """List every head with the algorithms that can use it."""
    yield "head", "what it returns", "algorithms"
    for name, summary in (POLICY_HEADS | VALUE_HEADS).items():
        yield name, summary, ", ".join(algorithms_with_head(name))


def encoders() -> Iterator[Row]:
    """List every encoder."""
    yield "encoder", "what it is"
    yield from ENCODERS.items()


def environments() -> Iterator[Row]:
    """List every suite, and how to install it if it is not; nothing is imported for it."""
    yield "suite", "environments", "installed"
    for name, suite in sorted(SUITES.items()):
        yield name, suite.summary, "yes" if suite.installed else install_command(suite.extra)


def presets() -> Iterator[Row]:
    """List every preset with its algorithm, torso and task."""
    yield "preset", "algorithm", "memory", "task"
    for item in preset.presets():
        yield item.name, item.algorithm, item.settings["torso"], item.settings["environment"]


LISTS: dict[str, Callable[[], Iterator[Row]]] = {
    "torsos": torsos,
    "algorithms": algorithms,
    "heads": heads,
    "encoders": encoders,
    "environments": environments,
    "presets": presets,
}
"""The function of each list."""
