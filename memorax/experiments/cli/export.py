"""The command ``memorax export``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from memorax.experiments.cli.errors import input_checked
from memorax.experiments.cli.parsing import parse
from memorax.experiments.run.options import Choice


@dataclass(frozen=True)
class Export:
    """Write an agent's deterministic step as a program that runs without memorax.

    The folder has the program, signature.json with the names, shapes and dtypes of what it takes
    and returns, and initial_carry.npz.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """The run's folder."""
    output: Path | None = None
    """The folder to make; None: RUN/export-FORMAT. One that exists is refused."""
    format: Literal["stablehlo", "onnx"] = "stablehlo"
    """StableHLO, by jax.export for cpu, cuda and tpu, or ONNX."""
    model: str | None = None
    """The torso's name; None: the run's own, not its memoryless twin."""
    seed: int = 0
    """Which of the run's seeds."""
    batch_size: int | Literal["free"] | None = None
    """How many environments the program acts in at once, the first axis of all arrays; free: any
    number, chosen with each call; None: one, without that axis."""
    checkpoint: Choice = "last"
    """The last one, or the best: that with the greatest mean return before it."""


def run(arguments: list[str]) -> int:
    """Run ``memorax export`` and return its exit code."""
    options = parse(Export, "memorax export", arguments)
    from memorax.experiments.run.folder import RunFolder

    with input_checked():
        RunFolder.open(options.run)
    from memorax.experiments.run.export import export
    from memorax.experiments.run.policy import load_step

    output = options.output or options.run / f"export-{options.format}"
    with input_checked():
        step = load_step(options.run, options.model, options.seed, options.checkpoint)
        print(export(step, options.format, output, options.batch_size))
    return 0
