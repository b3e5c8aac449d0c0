"""The command ``memorax presets``."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.table import Table

from memorax.catalog.algorithms import ALGORITHMS
from memorax.experiments.cli.errors import input_checked
from memorax.experiments.cli.parsing import parse
from memorax.experiments.presets import preset
from memorax.experiments.presets.preset import Preset
from memorax.experiments.run.command import set_options
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.console import make_console
from memorax.experiments.run.preset import with_preset


@dataclass(frozen=True)
class Presets:
    """List complete settings that are known to learn, or show what one of them sets and reached.

    memorax train, compare and sweep take one by --preset NAME; options beside it override it.
    """

    name: Annotated[str | None, tyro.conf.Positional] = None
    """The preset to show; None: list all."""


def run(arguments: list[str]) -> int:
    """Run ``memorax presets`` and return its exit code."""
    options = parse(Presets, "memorax presets", arguments)
    with input_checked():
        if options.name is None:
            make_console().print(presets_table())
        else:
            print("\n".join(described(preset.load(options.name))))
    return 0


def presets_table() -> Table:
    """Show every preset with what it returned."""
    result = Table(box=None, pad_edge=False)
    for column in ("preset", "algorithm", "mean return", "what it is for"):
        result.add_column(column)
    for item in preset.presets():
        returns = ", ".join(
            f"{reached.model} {_mean(reached.seed_returns):.2f}"
            for reached in item.measured.reached
        )
        result.add_row(item.name, item.algorithm, returns, item.description)
    return result


def described(item: Preset) -> Iterator[str]:
    """Describe a preset: its purpose, its command, its settings and its measured returns."""
    yield item.description
    yield ""
    yield item.command
    yield ""
    yield "It sets, where that is not the default:"
    plain = TrainConfig(algorithm=ALGORITHMS[item.algorithm].config())
    yield from (f"  {option}" for option in set_options(with_preset(plain, item), plain))
    yield f"'{item.command} --help' lists all of its settings."
    yield ""
    yield f"Mean return of each seed, most likely actions, measured on {item.measured.date}:"
    for reached in item.measured.reached:
        seeds = ", ".join(f"{value:.3f}" for value in reached.seed_returns)
        others = {
            "sampled actions": reached.sampled_return,
            "best in training": reached.best_return,
        }
        measured = [f"{name} {value:.3f}" for name, value in others.items() if value is not None]
        yield f"  {'; '.join([f'{reached.model}: {seeds}', *measured])}"


def _mean(values: tuple[float, ...]) -> float:
    return sum(values) / len(values)
