"""Training the trials of a study, several at a time, or resuming where that stopped."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.text import Text

from memorax.algorithms import ReplayAlgorithm
from memorax.experiments.run.agents import make_agent
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.devices import Devices, make_mesh
from memorax.experiments.run.interrupt import Interrupt
from memorax.experiments.run.program import Program
from memorax.experiments.run.training import make_agents
from memorax.experiments.study.folder import Proposed, StudyFolder
from memorax.experiments.study.results import Row
from memorax.experiments.study.traced_hyperparameters import program_key, traceable
from memorax.experiments.study.trial import Ending, Trial
from memorax.experiments.study.trial_training import TrialsProgram, last_step, train_trials


def check_trials(kind: type[StudyFolder], config: Any) -> None:
    """Check that the trials that are known before any has ended can be made.

    Args:
        kind: The kind of study.
        config: Its configuration.

    Raises:
        ValueError: If parts do not fit each other; nothing is compiled or written by then.
        ModuleNotFoundError: If a logger, Optuna or a task is not installed.
    """
    kind.check_installed(config)
    made = set()
    for trial in kind(Path()).propose(config, []).trials:
        try:
            key = program_key(trial.config, _traceable(trial))
            if key in made:
                continue
            made.add(key)
            agent = make_agent(trial.config, trial.model)
            if isinstance(agent, ReplayAlgorithm):
                agent.check_replay_fits(trial.config.num_seeds * config.trials_at_once)
        except ValueError as error:
            raise ValueError(f"{trial.described} cannot be made: {error}") from error


def run_study(
    folder: StudyFolder, config: Any, devices: Devices, console: Console
) -> Sequence[Row] | None:
    """Train and evaluate every trial of a study, or resume where that stopped.

    Args:
        folder: The study's folder.
        config: Its configuration.
        devices: The devices to train on.
        console: Where to show progress.

    Returns:
        The table's rows, or None if Ctrl-C has interrupted the study; checkpoints are kept in
        either case.

    Raises:
        TerminatedError: If SIGTERM or SIGHUP has interrupted the study; its checkpoints are kept.
        EnvironmentFailedError: If an environment failed in its process.
        WriteFailedError: If a file cannot be written, and that is to stop the study.
    """
    trials: list[Trial] = []
    with Interrupt(console) as interrupt:
        while len(trials) < config.trials:
            proposed = folder.propose(config, trials)
            if not _train(folder, config, devices, proposed, console, interrupt):
                interrupt.raise_if_terminated()
                return None
            trials += proposed.trials
    return folder.finish(config, trials, console)


def _train(
    folder: StudyFolder,
    config: Any,
    devices: Devices,
    proposed: Proposed,
    console: Console,
    interrupt: Interrupt,
) -> bool:
    """Train trials that were proposed together, several at a time."""
    waiting = [trial for trial in proposed.trials if _waits(folder, trial, console)]
    for trials, program in _programs(waiting, config.trials_at_once, devices):
        numbers = ", ".join(str(trial.number + 1) for trial in trials)
        console.print(
            Text(f"trial {numbers} of {config.trials}:", style="bold"),
            "; ".join(trial.described for trial in trials),
        )
        if not train_trials(trials, program, proposed.should_stop, console, interrupt):
            return False
        for trial in trials:
            if (ending := trial.ending) and ending.why:
                console.print(f"{trial.title}: {ending.why}", soft_wrap=True)
    return True


def _waits(folder: StudyFolder, trial: Trial, console: Console) -> bool:
    """Make a trial's folder, and return whether the trial still has to be trained."""
    if trial.ending is not None:
        console.print(f"{trial.title} has ended before")
        return False
    try:
        make_agent(trial.config, trial.model)
    except ValueError as error:
        trial.end(Ending("refused", str(error)))
        return False
    folder.claim_run(trial.folder.path, trial.config)
    return True


def _programs(
    waiting: Sequence[Trial], at_once: int, devices: Devices
) -> Iterator[tuple[list[Trial], Program]]:
    """Yield trials that train side by side, and the program that trains them."""
    for group in _grouped(waiting):
        config, agents = group[0].config, make_agents(group[0].config)
        mesh = make_mesh(devices, config, agents)
        if group[0].values:
            program = TrialsProgram(mesh, config, _traceable(group[0]))
            for start in range(0, len(group), at_once):
                trials = group[start : start + at_once]
                program.start([trial.config for trial in trials])
                yield trials, program
        else:
            yield group, Program(mesh, config, config.torso, agents[config.torso])
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
