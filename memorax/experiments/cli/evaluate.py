"""The command ``memorax evaluate``."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from memorax.experiments.cli.errors import input_checked
from memorax.experiments.cli.parsing import parse
from memorax.experiments.run.config import TrainConfig
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
    """Steps after which episodes that have not ended are truncated; None: as in the run itself."""
    environment_parameters: tuple[str, ...] | None = None
    """Other values of the task's parameters, such as corridor_length=50, to see how far the memory
    carries; None: all as in the run itself."""
    checkpoint: Choice = "last"
    """The last one, or the best: that with the greatest mean return before it."""
    output: Path | None = None
    """Also write the results, with the return of every episode, into a new file that ends in
    .json."""


def run(arguments: list[str]) -> int:
    """Run ``memorax evaluate`` and return its exit code."""
    options = parse(Evaluate, "memorax evaluate", arguments)
    from memorax.experiments.run.folder import RunFolder

    with input_checked():
        folder = RunFolder.open(options.run)
        trained = folder.config()
        config = evaluated_config(trained, options)
    from memorax.experiments.cli.compilation_cache import enable_compilation_cache
    from memorax.experiments.run import evaluation_file
    from memorax.experiments.run.best_return import read_best_returns
    from memorax.experiments.run.devices import one_device
    from memorax.experiments.run.evaluation import check_same_spaces, summarize, table
    from memorax.experiments.run.program import Program
    from memorax.experiments.run.training import make_agents, restore

    enable_compilation_cache()
    with input_checked():
        if options.output is not None:
            evaluation_file.check_output(options.output)
        agents = make_agents(config)
        # A checkpoint also holds the environments' state, which other parameters may shape.
        trained_agents = agents if config.task == trained.task else make_agents(trained)
        states = {}
        for name, agent in trained_agents.items():
            check_same_spaces(agent, agents[name])
            states[name] = restore(trained, name, agent, folder, options.checkpoint)
    console = make_console()
    evaluations, reports = [], []
    for name, agent in agents.items():
        program = Program(one_device(), config, name, agent)
        # Nothing but Ctrl-C interrupts it here, which ends the command.
        if (seen := program.evaluate(states[name], name, console)) is None:
            continue
        best = read_best_returns(folder, name, config.num_seeds)
        if config.task != trained.task:
            best = best * float("nan")  # While training, it was another task.
        evaluations.append(summarize(config, name, states[name], seen, best))
        reports.append(seen)
    console.print(table(config, evaluations))
    if options.output is not None:
        evaluation_file.write(options.output, config, evaluations, reports)
        console.print(f"results: {options.output}", soft_wrap=True)
    return 0


def evaluated_config(trained: TrainConfig, options: Evaluate) -> TrainConfig:
    """Return the configuration of a run with the changes for its evaluation.

    Raises:
        ValueError: If a value is out of its range.
    """
    changed = {}
    for name in ("evaluation_episodes", "evaluation_steps"):
        if (value := getattr(options, name)) is not None:
            changed[name] = value
    if options.environment_parameters is not None:
        # Checks the form of those that are given before they take the place of others.
        given = dataclasses.replace(trained, environment_parameters=options.environment_parameters)
        parameters = trained.parsed_environment_parameters | given.parsed_environment_parameters
        assignments = (f"{name}={value}" for name, value in parameters.items())
        changed["environment_parameters"] = tuple(assignments)
    return dataclasses.replace(trained, **changed)
