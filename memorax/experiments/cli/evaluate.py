"""The command ``memorax evaluate``."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from memorax.experiments.cli.errors import input_checked
from memorax.experiments.cli.parsing import parse
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.console import make_console, waiting_line
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
    """Other values of the task's parameters, such as corridor_length=50; several values of one,
    corridor_length=10,20,50, show how far the memory carries; None: all as in the run itself."""
    checkpoint: Choice = "last"
    """The last one, or the best: that with the greatest mean return before it."""
    output: Path | None = None
    """Also write the results, with the return of every episode, into a new file that ends in
    .json, and of several values a picture beside it that ends in .png."""


def run(arguments: list[str]) -> int:
    """Run ``memorax evaluate`` and return its exit code."""
    options = parse(Evaluate, "memorax evaluate", arguments)
    from memorax.experiments.run.folder import RunFolder

    with input_checked():
        folder = RunFolder.open(options.run)
        trained = folder.config()
        parameter, values, configs = evaluated_configs(trained, options)
    from memorax.experiments.cli.compilation_cache import enable_compilation_cache
    from memorax.experiments.files.output import check_output
    from memorax.experiments.run import evaluation_file
    from memorax.experiments.run.best_return import read_best_returns
    from memorax.experiments.run.devices import one_device
    from memorax.experiments.run.evaluation import (
        check_same_spaces,
        summarize,
        table,
        table_by_parameter,
    )
    from memorax.experiments.run.plotting import plot_returns_by_parameter
    from memorax.experiments.run.program import Program
    from memorax.experiments.run.training import make_agents, restore

    enable_compilation_cache()
    console = make_console()
    with input_checked():
        if options.output is not None:
            check_output(options.output, ".json")
            if parameter:
                check_output(picture_of(options.output), ".png")
        agents = [make_agents(config) for config in configs]
        # A checkpoint also holds the environments' state, which other parameters may shape.
        trained_agents = next(
            (
                own
                for own, config in zip(agents, configs, strict=True)
                if config.task == trained.task
            ),
            None,
        ) or make_agents(trained)
        states = {}
        for name, agent in trained_agents.items():
            for others in agents:
                check_same_spaces(agent, others[name])
            with waiting_line(console, f"{name}: reading the checkpoint"):
                states[name] = restore(trained, name, agent, folder, options.checkpoint)

    def evaluate(config: TrainConfig, own: dict[str, Any]) -> evaluation_file.Evaluated:
        evaluations, reports = [], []
        for name, agent in own.items():
            program = Program(one_device(), config, name, agent)
            # Nothing but Ctrl-C interrupts it here, which ends the command.
            if (seen := program.evaluate(states[name], name, console)) is None:
                continue
            best = read_best_returns(folder, name, config.num_seeds)
            if config.task != trained.task:
                best = best * float("nan")  # While training, it was another task.
            evaluations.append(summarize(config, name, states[name], seen, best))
            reports.append(seen)
        return evaluation_file.Evaluated(config, evaluations, reports)

    evaluated = [evaluate(config, own) for config, own in zip(configs, agents, strict=True)]
    by_value = [one.evaluations for one in evaluated]
    several = parameter and table_by_parameter(trained, parameter, values, by_value)
    console.print(several or table(configs[0], by_value[0]))
    if options.output is not None:
        evaluation_file.write(options.output, evaluated)
        console.print(f"results: {options.output}", soft_wrap=True)
        if parameter:
            picture = picture_of(options.output)
            plot_returns_by_parameter(picture, trained, parameter, values, by_value)
            console.print(f"picture: {picture}", soft_wrap=True)
    return 0


def picture_of(output: Path) -> Path:
    """Return where the picture of several values goes, beside the results."""
    return output.with_suffix(".png")


def evaluated_configs(
    trained: TrainConfig, options: Evaluate
) -> tuple[str, list[int | float | bool | str], list[TrainConfig]]:
    """Return the configuration of a run with what its evaluation changes, for each of the values.

    Returns:
        The parameter that has several values, and these; empty if none has. And the
        configurations, one of each.

    Raises:
        ValueError: If a value is out of its range, or several parameters have several values.
    """
    given = options.environment_parameters or ()
    several = [assignment for assignment in given if "," in assignment.partition("=")[2]]
    if not several:
        return "", [], [evaluated_config(trained, options)]
    if len(several) > 1:
        raise ValueError(
            "environment_parameters may give one parameter several values, got "
            f"{' and '.join(map(repr, several))}"
        )
    parameter, _, words = several[0].partition("=")
    configs = [
        evaluated_config(
            trained,
            dataclasses.replace(
                options,
                environment_parameters=tuple(
                    f"{parameter}={word}" if assignment == several[0] else assignment
                    for assignment in given
                ),
            ),
        )
        for word in words.split(",")
    ]
    values = [config.parsed_environment_parameters[parameter] for config in configs]
    if len(set(values)) < len(values):
        raise ValueError(f"{parameter} must have different values, got {words}")
    return parameter, values, configs


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
