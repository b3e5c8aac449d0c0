"""How the cost of torsos by name grows with time and with width, beside Flax's GRU.

    python benchmarks/growth.py [--torsos s5 mamba2] [--output docs/results]

Forward and backward, in processor time: 4,096 steps against 1,024 over 16 sequences, and width 256
against 64 over 16 sequences of 256 steps; and one sequence of 4,096 steps against those 16 of 256,
which are as many steps. All sizes of a torso and of Flax's GRU take turns in one process, and the
least time of each counts, since other work only adds.

``time, user`` leaves out what the system does, which is to hand out pages of memory: glibc keeps no
block of more than 32 MiB, so that a program that needs more pays for new pages at each call.
"""

import datetime
import json
import resource
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import matplotlib
import tyro
from timing import machine

from memorax.experiments.presets.torsos import TORSOS, make_torso
from memorax.validation import unknown_name

FLAX_GRU = "Flax GRU"
SHORT, LONG, SINGLE, MANY, WIDE = SIZES = (
    (16, 1024, 64),
    (16, 4096, 64),
    (1, 4096, 64),
    (16, 256, 64),
    (16, 256, 256),
)
"""Batch, time and width of the programs."""
HEADER = (
    "| torso (Flax's GRU in the same run) | 4,096 / 1,024 steps | time, user "
    "| width 256 / 64 | 1 x 4,096 / 16 x 256 |",
    "|---|---|---|---|---|",
)


@dataclass
class Options:
    """Measure how cost grows with time and width."""

    torsos: tuple[str, ...] = tuple(TORSOS)
    """Which torsos by name to measure."""
    repeats: int = 5
    """Calls of each program, after one that is not timed; the least counts."""
    output: Path | None = None
    """A folder for growth.md, growth.json and growth.png, whose earlier rows are kept unless
    measured anew; None: only print."""


@cache
def program(name: str, batch: int, steps: int, width: int) -> Callable[[], Any]:
    """Return a call of a compiled forward and backward pass."""
    inputs = jax.random.normal(jax.random.key(0), (batch, steps, width))
    model = nn.RNN(nn.GRUCell(width)) if name == FLAX_GRU else make_torso(name, width)
    params = jax.jit(model.init)(jax.random.key(1), inputs[:, :1])

    def loss(params, inputs):
        output: Any = model.apply(params, inputs)
        return ((output[1] if isinstance(output, tuple) else output) ** 2).sum()

    compiled = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(params, inputs).compile()
    return lambda: compiled(params, inputs)


def measure(name: str, repeats: int) -> dict[str, list[list[float]]]:
    """Return the least user and system seconds of a torso and Flax's GRU, for each of ``SIZES``."""
    names = dict.fromkeys((name, FLAX_GRU))
    programs = {(name, size): program(name, *size) for name in names for size in SIZES}
    seconds: dict[tuple, list[tuple[float, float]]] = {key: [] for key in programs}
    for call in programs.values():
        jax.block_until_ready(call())
    for _ in range(repeats):
        for key, call in programs.items():
            before = resource.getrusage(resource.RUSAGE_SELF)
            jax.block_until_ready(call())
            after = resource.getrusage(resource.RUSAGE_SELF)
            spent = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
            seconds[key].append(spent)
    return {name: [list(min(seconds[name, size], key=sum)) for size in SIZES] for name in names}


def row(name: str, measured: dict[str, list[list[float]]]) -> str:
    """Return the row of a torso."""

    def ratios(name):
        user = dict(zip(SIZES, (user for user, _ in measured[name]), strict=True))
        whole = dict(zip(SIZES, map(sum, measured[name]), strict=True))
        return (
            whole[LONG] / whole[SHORT],
            user[LONG] / user[SHORT],
            whole[WIDE] / whole[MANY],
            whole[SINGLE] / whole[MANY],
        )

    pairs = zip(ratios(name), ratios(FLAX_GRU), strict=True)
    return f"| {' | '.join([name, *(f'{own:.1f} ({gru:.1f})' for own, gru in pairs)])} |"


def plot(measured: dict[str, dict], path: Path) -> None:
    """Draw each torso's cost against time and width, and Flax's GRU from the same turns."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    columns = min(6, len(measured))
    figure, axes = plt.subplots(
        -(-len(measured) // columns),
        columns,
        figsize=(2.2 * columns + 1, 2 * -(-len(measured) // columns)),
        squeeze=False,
        sharey=True,
    )
    for panel in axes.flat[len(measured) :]:
        panel.axis("off")
    for panel, (name, both) in zip(axes.flat, measured.items(), strict=False):
        for model, color in ((name, "tab:blue"), (FLAX_GRU, "black")):
            ms = {size: 1e3 * sum(pair) for size, pair in zip(SIZES, both[model], strict=True)}
            over_time, over_width = (MANY, SHORT, LONG), (MANY, WIDE)
            panel.loglog(
                [size[1] for size in over_time],
                [ms[size] for size in over_time],
                color=color,
                marker=".",
                label=f"{model}, steps",
            )
            panel.loglog(
                [size[2] for size in over_width],
                [ms[size] for size in over_width],
                color=color,
                marker=".",
                linestyle=":",
                label=f"{model}, width",
            )
        panel.set_title(name, fontsize=8)
        panel.grid(alpha=0.3)
    axes.flat[0].legend(fontsize=5)
    figure.supxlabel("steps (solid, width 64) or width (dotted, 256 steps)", fontsize=8)
    figure.supylabel("ms, forward and backward, 16 sequences", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    options = tyro.cli(Options)
    for torso in options.torsos:
        if torso not in TORSOS:
            raise SystemExit(unknown_name("torso", torso, TORSOS))
    print("\n".join(HEADER), flush=True)
    measured: dict[str, Any] = {}
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        report = options.output / "growth.json"
        measured = earlier(report) if report.exists() else {}
    for name in options.torsos:
        measured[name] = measure(name, options.repeats)
        print(row(name, measured[name]), flush=True)
        if options.output is not None:
            write(measured, options.output)


def earlier(report: Path) -> dict[str, Any]:
    """Return what a report on the same machine has measured."""
    kept = json.loads(report.read_text())
    if kept["machine"] != machine():
        raise SystemExit(f"{report} was measured on {kept['machine']}, this is {machine()}")
    return kept["seconds"]


def write(measured: dict[str, Any], folder: Path) -> None:
    """Write the report, the table and the figure."""
    kept = {"machine": machine(), "sizes": SIZES, "seconds": measured}
    (folder / "growth.json").write_text(json.dumps(kept, indent=1) + "\n")
    rows = [row(name, seconds) for name, seconds in measured.items()]
    text = [f"{datetime.date.today()}, {machine()}.", "", *HEADER, *rows, ""]
    (folder / "growth.md").write_text("\n".join(text))
    plot(measured, folder / "growth.png")


if __name__ == "__main__":
    main()
