"""A sweep: trials, several at a time, then a table and plots."""

import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.text import Text

from memorax.algorithms import ReplayAlgorithm
from memorax.experiments.loggers.registry import check_installed
from memorax.experiments.run.agents import make_agent
from memorax.experiments.run.command import train_command
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.devices import Devices, make_mesh
from memorax.experiments.run.folder import RunFolder
from memorax.experiments.run.interrupt import Interrupt
from memorax.experiments.run.plotting import count_seeds
from memorax.experiments.run.training import (
    TerminatedError,
    make_agents,
    report_last_checkpoint,
)
from memorax.experiments.study.folder import StudyFolder
from memorax.experiments.study.page import (
    preformatted,
    reading_results,
    section,
    write_page,
)
from memorax.experiments.study.plots import Reached, plot_learning_curves, plot_searched_values
from memorax.experiments.study.proposals import Proposals, propose
from memorax.experiments.study.search_space import RealRange
from memorax.experiments.study.sweep_config import (
    SweepConfig,
    check_method_installed,
    from_json,
    to_json,
)
from memorax.experiments.study.sweep_results import TrialRow, make_rows, make_table
from memorax.experiments.study.traced_hyperparameters import program_key, traceable
from memorax.experiments.study.trial import Ending, Trial, text
from memorax.experiments.study.trial_training import TrialsProgram, last_step, train_trials

MOST_CURVES = 8
"""Trials whose learning curves are drawn: the best."""


PLOTS = {
    "searched_values.png": "Return of each finished trial against the values it was given, with "
    "95 % bootstrap intervals over seeds.",
    "learning_curves.png": "Return of the episodes that ended while training, of the best trials, "
    f"{MOST_CURVES} at most: interquartile mean over seeds, with 95 % bootstrap intervals.",
}


class SweepFolder(StudyFolder):
    """A sweep's folder: its configuration, ``trials/NNN/`` with ``trial.json``, and its results.

    Args:
        path: The folder.
    """

    kind = "sweep folder"
    field = "search"
    study = "sweep"
    resume = "memorax sweep --sweep-folder"
    to_json = staticmethod(to_json)
    from_json = staticmethod(from_json)

    def trial(self, number: int, values: dict[str, Any], config: SweepConfig[Any]) -> Trial:
        """Return a trial, whose folder need not be there."""
        path = self.path / "trials" / f"{number:03}"
        return Trial(number, values, config.train, RunFolder(path))


def check_trials(config: SweepConfig[Any]) -> None:
    """Check that the trials that are known before any has ended can be made.

    Raises:
        ValueError: If parts do not fit each other; nothing is compiled or written by then.
        ModuleNotFoundError: If a logger, Optuna or a task is not installed.
    """
    if not config.search:
        raise ValueError(
            "search must name what to try, such as --search learning-rate=log:1e-4:1e-2"
        )
    check_method_installed(config)
    check_installed(config.train.loggers)
    made = set()
    for number, values in enumerate(propose(config, []).values):
        trial = Trial(number, values, config.train, RunFolder(Path()))
        try:
            key = program_key(trial.config, _traceable(trial))
            if key in made:
                continue
            made.add(key)
            agent = make_agent(trial.config, trial.config.torso)
            if isinstance(agent, ReplayAlgorithm):
                agent.check_replay_fits(config.train.num_seeds * config.trials_at_once)
        except ValueError as error:
            raise ValueError(f"a trial with {trial.described} cannot be made: {error}") from error


def sweep(
    config: SweepConfig[Any], devices: Devices, folder: SweepFolder, console: Console
) -> list[TrialRow] | None:
    """Make, train and evaluate trials, or resume where that stopped.

    Args:
        config: The sweep's configuration.
        devices: The devices to train on.
        folder: Its folder.
        console: Where to show progress.

    Returns:
        The table's rows, best trial first, or None if Ctrl-C has interrupted the sweep; checkpoints
        are kept in either case.

    Raises:
        TerminatedError: If SIGTERM or SIGHUP has interrupted the sweep; its checkpoints are kept.
        EnvironmentFailedError: If an environment failed in its process.
        WriteFailedError: If a file cannot be written, and that is to stop the sweep.
    """
    trials: list[Trial] = []
    with Interrupt(console) as interrupt:
        while len(trials) < config.trials:
            proposals = propose(config, trials)
            proposed = [
                folder.trial(len(trials) + index, values, config)
                for index, values in enumerate(proposals.values)
            ]
            if not _train(config, devices, folder, proposals, proposed, trials, console, interrupt):
                if interrupt.signal not in (None, signal.SIGINT):
                    raise TerminatedError(interrupt.signal)
                return None
            trials += proposed
    return _finish(config, folder, trials, console)


def _train(
    config: SweepConfig[Any],
    devices: Devices,
    folder: SweepFolder,
    proposals: Proposals,
    proposed: list[Trial],
    before: list[Trial],
    console: Console,
    interrupt: Interrupt,
) -> bool:
    """Train trials that were proposed together, several at a time."""
    first = len(before)

    def should_stop(trial, reports):
        endings = [other.ending for other in (*before, *proposed)]
        finished = [ending.reports for ending in endings if ending and ending.outcome == "finished"]
        return proposals.should_stop(trial.number - first, reports, finished)

    waiting = [trial for trial in proposed if _claimed(folder, trial)]
    for trials, program in _programs(waiting, config.trials_at_once, devices):
        values = "; ".join(f"{trial.name} {trial.described}" for trial in trials)
        console.print(Text(f"of {config.trials} trials:", style="bold"), values)
        with report_last_checkpoint(trials[0].config.torso, trials[0].folder):
            if not train_trials(trials, program, should_stop, console, interrupt):
                return False
        for trial in trials:
            if (ending := trial.ending) and ending.why:
                console.print(f"{trial.name}: {ending.why}")
    return True


def _claimed(folder: SweepFolder, trial: Trial) -> bool:
    """Make a trial's folder, and return whether the trial still has to be trained."""
    if trial.ending is not None:
        return False
    try:
        folder.claim_run(trial.folder.path.relative_to(folder.path), trial.config)
        make_agent(trial.config, trial.config.torso)
    except ValueError as error:
        trial.end(Ending("refused", str(error)))
        return False
    return True


def _programs(
    waiting: Sequence[Trial], at_once: int, devices: Devices
) -> Iterator[tuple[list[Trial], TrialsProgram]]:
    """Yield trials that train side by side, and the program that trains them."""
    for group in _grouped(waiting):
        config = group[0].config
        mesh = make_mesh(devices, config, make_agents(config))
        program = TrialsProgram(mesh, config, _traceable(group[0]))
        for start in range(0, len(group), at_once):
            yield group[start : start + at_once], program
        # Every group has a program, and Linux lets a process map only so many.
        jax.clear_caches()


def _grouped(trials: Sequence[Trial]) -> list[list[Trial]]:
    """Group the trials that are at the same step and that one program can train."""
    groups: dict[tuple[TrainConfig[Any], int], list[Trial]] = {}
    for trial in trials:
        key = program_key(trial.config, _traceable(trial)), last_step(trial)
        groups.setdefault(key, []).append(trial)
    return list(groups.values())


def _traceable(trial: Trial) -> tuple[str, ...]:
    return traceable(trial.config, trial.values)


def _finish(
    config: SweepConfig[Any], folder: SweepFolder, trials: Sequence[Trial], console: Console
) -> list[TrialRow]:
    rows = make_rows(trials)
    by_name = {trial.name: trial for trial in trials}
    finished = [row for row in rows if row.outcome == "finished"]
    best = train_command(by_name[finished[0].trial].config) if finished else None
    if finished:
        curves = {}
        for row in finished[:MOST_CURVES]:
            trial = by_name[row.trial]
            curves[trial.name] = trial.result.steps, trial.result.curves
        title = f"{config.train.algorithm_name} on {config.train.task}"
        plot_learning_curves(folder.path / "learning_curves.png", {title: curves})
        plot_searched_values(
            folder.path / "searched_values.png",
            f"{config.train.torso}, {title}: {len(finished)} trials, "
            f"{count_seeds(config.train.num_seeds)} each",
            {flag: [_reached(row, flag) for row in finished] for flag in config.space},
            logarithmic=[
                flag
                for flag, domain in config.space.items()
                if isinstance(domain, RealRange) and domain.logarithmic
            ],
        )
    results = {"search": config.search, "method": config.method, "best": best}
    folder.finish(make_table(config, rows), rows, results, console)
    if best:
        console.print(f"the best again: {best}", soft_wrap=True)
    return rows


def _reached(row: TrialRow, flag: str) -> Reached:
    value = row.values[flag]
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return Reached(value if numeric else text(value), row.interquartile_mean, row.low, row.high)


def write_report(folder: SweepFolder) -> Path:
    """Turn a finished sweep into ``report.html``, a single page with its plots inside.

    Raises:
        ValueError: If the sweep has not finished, or its results cannot be read.
    """
    config = folder.config()
    train = config.train
    with reading_results(folder, folder.resume) as found:
        rows = [TrialRow(**row) for row in found["rows"]]
        best = found["best"]
        table = make_table(config, rows).html()
    finished = sum(row.outcome == "finished" for row in rows)
    return write_page(
        folder,
        title=f"{', '.join(config.space)} of {train.algorithm_name} on {train.task}",
        summary=f"{len(rows)} trials by {config.method} search, of which {finished} finished, "
        f"with {train.num_seeds} seed(s) each, {train.total_steps:,} environment steps a seed.",
        sections=[
            *([section("The best again", preformatted(best))] if best else []),
            section("Results", table),
        ],
        plots=PLOTS,
    )
