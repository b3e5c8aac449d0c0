"""The command ``memorax evaluate``."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from memorax.experiments.cli.errors import input_checked
from memorax.experiments.cli.parsing import parse
from memorax.experiments.run.console import make_console
from memorax.experiments.run.options import Choice


@dataclass(frozen=True)
class Evaluate:
    """Load a run's checkpoint and let every seed play the run's evaluation episodes."""

    run: Annotated[Path, tyro.conf.Positional]
    """The run's folder."""
    evaluation_episodes: int | None = None
    """Fresh episodes of each seed; None: as many as the run itself played, the same ones."""
    evaluation_steps: int | None = None
    """Steps after which episodes that have not ended are cut off; None: as in the run itself."""
    checkpoint: Choice = "last"
    """The last one, or the best: that with the greatest mean return before it."""


def run(arguments: list[str]) -> int:
    """Run ``memorax evaluate`` and return its exit code."""
    options = parse(Evaluate, "memorax evaluate", arguments)
    from memorax.experiments.run.folder import RunFolder

    with input_checked():
        folder = RunFolder.open(options.run)
        config = folder.config()
    from memorax.experiments.cli.compilation_cache import enable_compilation_cache
    from memorax.experiments.run.devices import one_device
    from memorax.experiments.run.evaluation import table
    from memorax.experiments.run.program import Program
    from memorax.experiments.run.training import evaluate_model, make_agents, restore

    enable_compilation_cache()
    with input_checked():
        for name in ("evaluation_episodes", "evaluation_steps"):
            if (value := getattr(options, name)) is not None:
                config = dataclasses.replace(config, **{name: value})
        agents = make_agents(config)
        states = {
            name: restore(config, name, agent, folder, options.checkpoint)
            for name, agent in agents.items()
        }
    console = make_console()
    evaluations = [
        evaluation
        for name, agent in agents.items()
        # Nothing but Ctrl-C interrupts it here, which ends the command.
        if (
            evaluation := evaluate_model(
                Program(one_device(), config, name, agent), name, states[name], folder, console
            )
        )
    ]
    console.print(table(config, evaluations))
    return 0
