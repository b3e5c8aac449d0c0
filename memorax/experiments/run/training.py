"""Training a run: every model, every seed, with what it leaves on disk."""

import contextlib
import math
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PyTree
from rich.console import Console

from memorax.algorithms import Algorithm, ReplayAlgorithm
from memorax.environments import in_processes, process_failure, release
from memorax.environments.processes.environment import invalid_action, invalid_actions_unlogged
from memorax.experiments.files.write_errors import WriteErrors, WriteFailedError
from memorax.experiments.loggers.combined import CombinedLogger
from memorax.experiments.loggers.logger import LoggedModel, means_over_updates
from memorax.experiments.run.agents import make_agent, num_updates
from memorax.experiments.run.checkpoints import CheckpointError, Checkpoints, Choice
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.devices import (
    abstract_state,
    compile_training,
    init_state,
    one_device,
)
from memorax.experiments.run.evaluation import Evaluation, evaluate_model, table, to_json
from memorax.experiments.run.folder import RunFolder, Stopwatch
from memorax.experiments.run.interrupt import Interrupt
from memorax.experiments.run.plotting import plot_learning_curve
from memorax.experiments.run.processes import any_process, wait_for_all
from memorax.experiments.run.schedules import fit_schedules


class TerminatedError(Exception):
    """A signal other than Ctrl-C has stopped the run; what it reached is kept.

    Args:
        number: The signal.
    """

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


class DivergedError(Exception):
    """A loss is no number any more; the message says which, when, and what is left."""


class EnvironmentFailedError(Exception):
    """An environment failed in its process; the message has its traceback, and what is left."""


@dataclass(frozen=True)
class Trained:
    """Where the training of one model ended.

    Attributes:
        step: Environment steps of each seed.
        state: The state of all seeds.
        finished: False if it was interrupted before its last step.
    """

    step: int
    state: PyTree
    finished: bool


def run(
    config: TrainConfig,
    agents: dict[str, Algorithm],
    mesh: Mesh,
    folder: RunFolder,
    console: Console,
) -> list[Evaluation] | None:
    """Train every model of a run, or go on where it stopped, and evaluate them.

    Args:
        config: The run's configuration.
        agents: The agent of each of its models, from ``make_agents``.
        mesh: The devices to train on, from ``make_mesh``.
        folder: Its folder.
        console: Where to show how it goes.

    Returns:
        The evaluations, or None if Ctrl-C has interrupted the run; what was reached is kept either
        way.

    Raises:
        TerminatedError: If SIGTERM or SIGHUP has interrupted the run; what was reached is kept.
        DivergedError: If a loss is no number any more.
        EnvironmentFailedError: If an environment failed in its process.
        WriteFailedError: If a file cannot be written, and that is to stop the run.
        CheckpointError: If the last checkpoint does not fit or is damaged.
    """
    console.print(f"run folder: {folder.path}", soft_wrap=True)
    writes = WriteErrors(config.on_write_error, console)
    evaluations = []
    with Interrupt(console) as interrupt:
        for model, agent in agents.items():
            with what_is_left_told(model, folder):
                trained = _train_model(
                    config, model, agent, mesh, folder, console, interrupt, writes
                )
                if folder.writes:
                    with writes.caught("picture of the learning curve"):
                        plot_learning_curve(folder, config)
            evaluation = None
            if trained.finished:
                release(trained.state)
                with what_is_left_told(model, folder):
                    evaluation = evaluate_model(
                        *(config, model, agent, mesh, trained.state, console),
                        interrupted=lambda: interrupt.wanted,
                    )
            if evaluation is None:
                where = "in its evaluation, " if trained.finished else ""
                console.print(
                    f"interrupted: {model} {where}at {trained.step:,} of "
                    f"{steps_to_train(config):,} steps is kept in {folder.path}",
                    soft_wrap=True,
                )
                writes.report()
                if interrupt.signal not in (None, signal.SIGINT):
                    raise TerminatedError(interrupt.signal)
                return None
            evaluations.append(evaluation)
    console.print(table(config, evaluations))
    with what_is_left_told(model, folder), writes.caught("evaluation"):
        folder.write("evaluation.json", to_json(evaluations))
    picture = folder.path / "learning_curve.png"
    if picture.is_file():
        console.print(f"learning curve: {picture}", soft_wrap=True)
    writes.report()
    wait_for_all("the end of the run")
    return evaluations


def make_agents(config: TrainConfig) -> dict[str, Algorithm]:
    """Return the agent of each model of a run.

    Raises:
        ValueError: If parts do not fit each other; nothing is compiled or written by then.
    """
    agents = {model: make_agent(config, model) for model in config.models}
    for agent in agents.values():
        if isinstance(agent, ReplayAlgorithm):
            agent.check_memory(config.num_seeds)
    return agents


def restore(
    config: TrainConfig, model: str, agent: Algorithm, folder: RunFolder, choice: Choice = "last"
) -> PyTree:
    """Return a state of a run's model, from its last checkpoint or its best.

    Raises:
        CheckpointError: If there is no such checkpoint, or it does not fit or is damaged.
    """
    like = abstract_state(one_device(), config, model, agent)
    with contextlib.closing(Checkpoints(folder, model)) as checkpoints:
        restored = checkpoints.restore(like, choice)
    if restored is None:
        raise CheckpointError(f"{folder.path} holds no checkpoint of {model}")
    return restored[1]


def _train_model(
    config: TrainConfig,
    model: str,
    agent: Algorithm,
    mesh: Mesh,
    folder: RunFolder,
    console: Console,
    interrupt: Interrupt,
    writes: WriteErrors,
) -> Trained:
    started = time.perf_counter()
    if isinstance(agent, ReplayAlgorithm):
        total = config.num_seeds * agent.replay_bytes
        console.print(f"{model}: the replay of {config.num_seeds} seed(s) takes {total:,} bytes")
    for line in fit_schedules(config)[1]:
        console.print(f"{model}: {line}")
    like = abstract_state(mesh, config, model, agent)
    stopwatch = Stopwatch(folder, model)
    total_steps = steps_to_train(config)
    longest = config.checkpoint_every // agent.steps_per_update
    chunk_steps = chunk_updates(num_updates(config), longest) * agent.steps_per_update
    with _closing(Checkpoints(folder, model, config.keep_checkpoints), writes) as checkpoints:
        restored = checkpoints.restore(like)
        step, state = restored or (0, init_state(mesh, config, agent, like))
        if step >= total_steps:
            console.print(f"{model} has finished its {step:,} steps before")
            return Trained(step, state, finished=True)
        if restored and in_processes(state):
            console.print(
                f"{model}: its environments' processes have ended with the run before; each begins "
                "a new episode"
            )
        episode_return = math.nan
        logged = LoggedModel(folder, model, step, total_steps, console)
        with contextlib.closing(CombinedLogger(config.loggers, logged, writes)) as log:
            compile_seconds, trains = 0.0, {}
            while step < total_steps and not any_process(interrupt.wanted):
                # The checkpoint of an extended run may lie inside a chunk of the longer one.
                num_steps = chunk_steps - step % chunk_steps
                if num_steps not in trains:
                    began = time.perf_counter() if trains else started
                    trains[num_steps] = compile_training(mesh, config, agent, like, num_steps)
                    compile_seconds += time.perf_counter() - began
                chunk_started = time.perf_counter()
                with _diverging_at(model, step, num_steps):
                    state, metrics = jax.block_until_ready(
                        trains[num_steps](np.uint32(step), state)
                    )
                seconds = time.perf_counter() - chunk_started
                stopwatch.add(config.num_seeds * num_steps, seconds)
                steps = range(
                    step + agent.steps_per_update, step + num_steps + 1, agent.steps_per_update
                )
                log.append(steps, metrics, seconds)
                check_losses(config, model, steps, metrics)
                due = step // config.checkpoint_every
                step += num_steps
                returns = means_over_updates(np.asarray(metrics["episode_return"]))
                episode_return = float(returns.mean())
                with writes.caught("checkpoint"):
                    checkpoints.check()
                if step // config.checkpoint_every > due:
                    log.flush()
                    save(checkpoints, stopwatch, step, state, episode_return, writes)
        save(checkpoints, stopwatch, step, state, episode_return, writes)
    console.print(
        f"{model}: compiled in {compile_seconds:.1f} s, {step:,} steps of "
        f"{config.num_seeds} seed(s) after {time.perf_counter() - started:.1f} s"
    )
    return Trained(step, state, finished=step >= total_steps)


@contextlib.contextmanager
def _diverging_at(model: str, step: int, num_steps: int) -> Iterator[None]:
    """Say between which steps a policy has come to draw what is no action."""
    try:
        with invalid_actions_unlogged():
            yield
    except jax.errors.JaxRuntimeError as error:
        action = invalid_action(error)
        if action is None:
            raise
        raise DivergedError(
            f"{model}: the policy is not finite between step {step:,} and {step + num_steps:,}: "
            f"{action}"
        ) from error


def save(
    checkpoints: Checkpoints,
    stopwatch: Stopwatch,
    step: int,
    state: PyTree,
    episode_return: float,
    writes: WriteErrors,
) -> None:
    """Write down how long it took, and the state, when the metrics before it are safe."""
    with writes.caught("timing"):
        stopwatch.flush()
    with writes.caught("checkpoint"):
        # What went wrong with the one before is no reason to leave this one out.
        checkpoints.wait()
    with writes.caught("checkpoint"):
        checkpoints.save(step, state, episode_return)


@contextlib.contextmanager
def _closing(checkpoints: Checkpoints, writes: WriteErrors) -> Iterator[Checkpoints]:
    try:
        yield checkpoints
    finally:
        with writes.caught("checkpoint"):
            checkpoints.close()


def check_losses(config: TrainConfig, model: str, steps: range, metrics: Mapping[str, Any]) -> None:
    """Stop at the first loss that is no number, before such a state is saved.

    Raises:
        DivergedError: If there is one among the metrics, of shape (seeds, updates).
    """
    # Before a replay is learned from there is no loss.
    first = getattr(config.algorithm, "learning_starts", 0)
    for index, step in enumerate(steps):
        for name, values in metrics.items():
            seeds = np.flatnonzero(~np.isfinite(np.asarray(values)[:, index]))
            if "loss" in name and step > first and seeds.size:
                raise DivergedError(
                    f"{model}: {name} of seed(s) {', '.join(map(str, seeds))} is not finite at "
                    f"step {step:,}"
                )


@contextlib.contextmanager
def what_is_left_told(model: str, folder: RunFolder) -> Iterator[None]:
    """Say what is left of a run that fails."""
    try:
        yield
    except DivergedError as error:
        raise DivergedError(f"{error}; {_last_good_state(model, folder)}") from error
    except (WriteFailedError, OSError) as error:
        raise WriteFailedError(f"{model}: {error}\n{_last_good_state(model, folder)}") from error
    except jax.errors.JaxRuntimeError as error:
        kept = _last_good_state(model, folder)
        action = invalid_action(error)
        if action is not None:
            # Heads draw within the action space as long as their parameters are finite.
            raise DivergedError(f"{model}: the policy is not finite: {action}; {kept}") from error
        failure = process_failure(error)
        if failure is None:
            raise
        raise EnvironmentFailedError(f"{model}: {failure}\n{kept}") from error


def _last_good_state(model: str, folder: RunFolder) -> str:
    # Opening the checkpoints would wait for the other processes of a run, which may be gone.
    entries = (folder.path / "checkpoints" / model).glob("*")
    step = max((int(path.name) for path in entries if path.name.isdecimal()), default=None)
    kept = f"checkpoint of step {step:,}" if step else "no checkpoint yet"
    return f"last good state: {kept} in {folder.path}"


def steps_to_train(config: TrainConfig) -> int:
    """Return the environment steps of each seed of a run, whole updates."""
    return num_updates(config) * config.algorithm.num_envs * config.algorithm.num_steps


def chunk_updates(updates: int, longest: int, most_chunks: int = 50) -> int:
    """Return the updates of a piece: the most that divide the run and give it that many pieces.

    Pieces of one length are compiled once; between pieces a run shows how it goes, saves and can
    be stopped.

    Args:
        updates: Those of the run.
        longest: How many at most, if that is one at least.
        most_chunks: How many pieces there are at least, if there are as many updates.
    """
    most = max(1, min(updates // most_chunks, longest))
    return max(size for size in range(1, most + 1) if updates % size == 0)
