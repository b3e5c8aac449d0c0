"""The command ``memorax presets``."""

import dataclasses
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import tyro
from rich.table import Table

from memorax.experiments.cli.errors import input_checked
from memorax.experiments.cli.parsing import parse
from memorax.experiments.presets import preset
from memorax.experiments.presets.preset import Preset
from memorax.experiments.run.config import ALGORITHMS, TrainConfig
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
    """Describe a preset: what it is for, its command, what it sets, and what it reached."""
    yield item.description
    yield ""
    yield item.command
    yield ""
    yield "It sets, where that is not the default:"
    plain = TrainConfig(algorithm=ALGORITHMS[item.algorithm]())
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


def set_options(config: TrainConfig[Any], default: TrainConfig[Any]) -> Iterator[str]:
    """Return the options of a configuration that are not as in another of the same algorithm."""
    if config.algorithm_name != "ppo":
        yield f"--algorithm {config.algorithm_name}"
    for mine, plain in ((config, default), (config.algorithm, default.algorithm)):
        for field in dataclasses.fields(mine):
            value, before = getattr(mine, field.name), getattr(plain, field.name)
            if value != before and field.name != "algorithm":
                yield _option(field.name.replace("_", "-"), value, before)


def _option(flag: str, value: Any, before: Any) -> str:
    if isinstance(value, bool) and isinstance(before, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    values = value if isinstance(value, tuple) else (value,)
    return shlex.join([f"--{flag}", *map(str, values)])


def _mean(values: tuple[float, ...]) -> float:
    return sum(values) / len(values)
