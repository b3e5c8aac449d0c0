"""Training a run: every model and every seed."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PyTree
from rich.console import Console

from memorax.algorithms import Algorithm, ReplayAlgorithm
from memorax.environments import process_failure, release, runs_in_processes
from memorax.environments.processes.environment import invalid_action, invalid_actions_unlogged
from memorax.experiments.files.write_errors import WriteErrors, WriteFailedError
from memorax.experiments.loggers.logger import Logger, Metrics
from memorax.experiments.run.agents import make_agent
from memorax.experiments.run.best_return import read_best_returns
from memorax.experiments.run.checkpoints import Checkpoints
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.console import waiting_line
from memorax.experiments.run.devices import abstract_state, one_device
from memorax.experiments.run.evaluation import Evaluation, summarize, table, to_json
from memorax.experiments.run.failures import (
    CheckpointError,
    DivergedError,
    EnvironmentFailedError,
    TerminatedError,
)
from memorax.experiments.run.folder import RunFolder
from memorax.experiments.run.interrupt import Interrupt
from memorax.experiments.run.options import Choice
from memorax.experiments.run.plotting import plot_learning_curve
from memorax.experiments.run.processes import any_process, wait_for_all
from memorax.experiments.run.program import Program
from memorax.experiments.run.recorder import Recorder
from memorax.experiments.run.schedules import fit_schedules

Record = Callable[[Recorder, range, Metrics, float, Callable[[], PyTree]], bool]
"""Records a chunk of a run, given its recorder, the updates' steps, metrics, seconds and a function
that returns its state. Returns whether the run continues."""


@dataclass(frozen=True)
class Trained:
    """The state in which the training of one model ended.

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
    """Train every model of a run, or resume where it stopped, and evaluate them.

    Args:
        config: The run's configuration.
        agents: The agent of each of its models, from ``make_agents``.
        mesh: The devices to train on, from ``make_mesh``.
        folder: Its folder.
        console: Where to show progress.

    Returns:
        The evaluations, or None if Ctrl-C has interrupted the run; checkpoints are kept in either
        case.

    Raises:
        TerminatedError: If SIGTERM or SIGHUP has interrupted the run; its checkpoints are kept.
        DivergedError: If a loss or a policy became non-finite.
        EnvironmentFailedError: If an environment failed in its process.
        WriteFailedError: If a file cannot be written, and that is to stop the run.
        CheckpointError: If the last checkpoint does not fit or is damaged.
    """
    console.print(f"run folder: {folder.path}", soft_wrap=True)
    writes = WriteErrors(config.on_write_error, console)
    evaluations = []
    with Interrupt(console) as interrupt:
        for model, agent in agents.items():
            with report_last_checkpoint(model, folder):
                program = Program(mesh, config, model, agent)
                trained = _train_model(program, model, folder, console, interrupt, writes)
                if folder.writes:
                    with writes.caught("picture of the learning curve"):
                        plot_learning_curve(folder, config)
            evaluation = None
            if trained.finished:
                release(trained.state)
                with report_last_checkpoint(model, folder):
                    evaluation = evaluate_model(
                        program, model, trained.state, folder, console, lambda: interrupt.wanted
                    )
            if evaluation is None:
                where = "in its evaluation, " if trained.finished else ""
                console.print(
                    f"interrupted: {model} {where}at {trained.step:,} of "
                    f"{program.total_steps:,} steps is kept in {folder.path}",
                    soft_wrap=True,
                )
                writes.report()
                if interrupt.signal not in (None, signal.SIGINT):
                    raise TerminatedError(interrupt.signal)
                return None
            evaluations.append(evaluation)
    console.print(table(config, evaluations))
    with report_last_checkpoint(model, folder), writes.caught("evaluation"):
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
            agent.check_replay_fits(config.num_seeds)
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


def evaluate_model(
    program: Program,
    model: str,
    state: PyTree,
    folder: RunFolder,
    console: Console,
    interrupted: Callable[[], bool] = lambda: False,
) -> Evaluation | None:
    """Evaluate all seeds of a model on fresh episodes; None if that was interrupted.

    Args:
        program: The model's program.
        model: Its name.
        state: The state of all seeds.
        folder: The run's folder.
        console: Where to show progress.
        interrupted: Whether to stop, asked every fraction of a second.
    """
    best = read_best_returns(folder, model, program.config.num_seeds)
    reports = program.evaluate(state, model, console, interrupted)
    return None if reports is None else summarize(program.config, model, state, reports, best)


def _train_model(
    program: Program,
    model: str,
    folder: RunFolder,
    console: Console,
    interrupt: Interrupt,
    writes: WriteErrors,
) -> Trained:
    started = time.perf_counter()
    config, agent = program.config, program.agent
    if isinstance(agent, ReplayAlgorithm):
        total = config.num_seeds * agent.replay_bytes
        console.print(f"{model}: the replay of {config.num_seeds} seed(s) takes {total:,} bytes")
    for line in fit_schedules(config)[1]:
        console.print(f"{model}: {line}")
    with closing_checkpoints(
        Checkpoints(folder, model, config.keep_checkpoints), writes
    ) as checkpoints:
        restored = checkpoints.restore(program.like)
        if restored:
            step, state = restored
        else:
            with waiting_line(console, f"{model}: compiling the first state"):
                step, state = 0, program.init()
        if step >= program.total_steps:
            console.print(f"{model} has finished its {step:,} steps before")
            return Trained(step, state, finished=True)
        if restored and runs_in_processes(state):
            console.print(
                f"{model}: its environments' processes have ended with the run before; each begins "
                "a new episode"
            )
        recorder = Recorder(
            *(folder, config, model, checkpoints, step, program.total_steps, console, writes)
        )
        with contextlib.closing(recorder):
            _, state = train_chunks(program, [recorder], state, lambda: interrupt.wanted, _record)
            recorder.save(state)
    console.print(
        f"{model}: compiled in {program.compile_seconds:.1f} s"
        f"{' (from the cache)' if program.was_cached else ''}, {recorder.step:,} steps of "
        f"{config.num_seeds} seed(s) after {time.perf_counter() - started:.1f} s"
    )
    return Trained(recorder.step, state, finished=recorder.step >= program.total_steps)


def train_chunks(
    program: Program,
    recorders: list[Recorder],
    state: PyTree,
    interrupted: Callable[[], bool],
    record: Record,
    terminal: Sequence[Logger] = (),
) -> tuple[list[Recorder], PyTree]:
    """Train in chunks until the end or an interrupt.

    Args:
        program: The program that trains.
        recorders: The recorder of each run that trains side by side, all at the same step.
        state: The state of all of them.
        interrupted: Whether to stop, asked between chunks.
        record: Records a chunk of a run and returns whether the run continues.
        terminal: Loggers for all runs together.

    Returns:
        The recorders of the runs that continue, and their state; neither is saved.

    Raises:
        DivergedError: If a policy became non-finite, or as ``record``.
    """
    while recorders and recorders[0].step < program.total_steps and not any_process(interrupted()):
        step, config = recorders[0].step, recorders[0].config
        # The checkpoint of an extended run may lie inside a chunk of the longer one.
        num_steps = program.chunk_steps - step % program.chunk_steps
        program.compiled(num_steps)
        started = time.perf_counter()
        with _policy_checked(recorders[0].model, step, num_steps):
            state, metrics = program.train(step, num_steps, state)
        seconds = time.perf_counter() - started
        metrics = {name: np.asarray(values) for name, values in metrics.items()}
        per_update = program.agent.steps_per_update
        steps = range(step + per_update, step + num_steps + 1, per_update)
        for logger in terminal:
            together = {name: np.concatenate(values) for name, values in metrics.items()}
            logger.log(steps, together, seconds)
        share = seconds / len(recorders)
        left = [
            index
            for index, recorder in enumerate(recorders)
            if record(
                *(recorder, steps, program.part(metrics, index), share),
                partial(program.part, state, index),
            )
        ]
        if (step + num_steps) // config.checkpoint_every > step // config.checkpoint_every:
            for index in left:
                recorders[index].save(program.part(state, index))
        if len(left) < len(recorders):
            recorders = [recorders[index] for index in left]
            state = program.keep(left, state)
    return recorders, state


def _record(recorder: Recorder, steps: range, metrics: Metrics, seconds: float, _: object) -> bool:
    recorder.log(steps, metrics, seconds)
    return True


@contextlib.contextmanager
def _policy_checked(model: str, step: int, num_steps: int) -> Iterator[None]:
    """Raise DivergedError, with the steps, where a policy draws an invalid action."""
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


@contextlib.contextmanager
def closing_checkpoints(checkpoints: Checkpoints, writes: WriteErrors) -> Iterator[Checkpoints]:
    """Close checkpoints at the end; a failed last save counts as any other write error."""
    try:
        yield checkpoints
    finally:
        with writes.caught("checkpoint"):
            checkpoints.close()


@contextlib.contextmanager
def report_last_checkpoint(model: str, folder: RunFolder) -> Iterator[None]:
    """Add the last checkpoint to the message of an error that ends a run."""
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
