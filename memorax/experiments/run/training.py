"""Training a run: every model and every seed."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jax.sharding import Mesh
from jaxtyping import PyTree
from rich.console import Console

from memorax.algorithms import Algorithm, ReplayAlgorithm
from memorax.environments import release, runs_in_processes
from memorax.experiments.files.write_errors import WriteErrors
from memorax.experiments.loggers.logger import LoggedModel, Logger, Metrics
from memorax.experiments.loggers.registry import LOGGERS, TERMINAL
from memorax.experiments.run.agents import make_agent
from memorax.experiments.run.best_return import read_best_returns
from memorax.experiments.run.checkpoints import Checkpoints
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.console import waiting_line
from memorax.experiments.run.devices import abstract_state, one_device
from memorax.experiments.run.evaluation import Evaluation, summarize, table, to_json
from memorax.experiments.run.failure_reports import policy_checked, report_last_checkpoint
from memorax.experiments.run.failures import CheckpointError
from memorax.experiments.run.folder import RunFolder
from memorax.experiments.run.interrupt import Interrupt
from memorax.experiments.run.options import Choice
from memorax.experiments.run.plotting import plot_learning_curve
from memorax.experiments.run.processes import any_process, wait_for_all
from memorax.experiments.run.program import Program
from memorax.experiments.run.recorder import ModelRun, Recorder
from memorax.experiments.run.schedules import fit_schedules

Record = Callable[[Recorder, range, Metrics, float, Callable[[], PyTree]], bool]
"""Records a chunk of a run, given its recorder, the updates' steps, metrics, seconds and a function
that returns its state. Returns whether the run continues."""


@dataclass(frozen=True)
class Trained:
    """Where the training of some runs, side by side, has stopped.

    Attributes:
        runs: Those that have not ended before their last step.
        step: Environment steps of each of their seeds.
        state: The state of all of them.
        finished: False if they were interrupted before their last step.
    """

    runs: list[ModelRun]
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
            program = Program(mesh, config, model, agent)
            runs = [ModelRun(folder, config, model, title=model)]
            evaluated = train_and_evaluate(runs, program, console, interrupt, writes)
            if evaluated is None:
                writes.report()
                interrupt.raise_if_terminated()
                return None
            evaluations += [evaluation for _, evaluation in evaluated]
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


def train_and_evaluate(
    runs: Sequence[ModelRun],
    program: Program,
    console: Console,
    interrupt: Interrupt,
    writes: WriteErrors,
    record: Record | None = None,
) -> list[tuple[ModelRun, Evaluation]] | None:
    """Train runs side by side, or resume where they stopped, and evaluate those that finish.

    Args:
        runs: The runs, with checkpoints of the same step or without any.
        program: The program that trains them.
        console: Where to show progress.
        interrupt: Whether Ctrl-C or a signal has asked to stop.
        writes: Handles write errors.
        record: Records a chunk of a run; None: logs it.

    Returns:
        The runs that finished with their evaluations, or None if they were interrupted; checkpoints
        are kept in either case.

    Raises:
        DivergedError: If a loss or a policy became non-finite.
        EnvironmentFailedError: If an environment failed in its process.
        WriteFailedError: If a file cannot be written, and that is to stop the run.
        CheckpointError: If the last checkpoint does not fit or is damaged.
    """
    title, folder = ", ".join(run.title for run in runs), runs[0].folder
    with report_last_checkpoint(runs[0].model, folder):
        trained = _train(runs, program, title, console, interrupt, writes, record or _record)
        for run in trained.runs:
            if run.folder.writes:
                with writes.caught("picture of the learning curve"):
                    plot_learning_curve(run.folder, run.config)
    evaluations = None
    if trained.finished:
        release(trained.state)
        with report_last_checkpoint(runs[0].model, folder):
            evaluations = _evaluate(trained, program, console, lambda: interrupt.wanted)
    if evaluations is None:
        where = "in its evaluation, " if trained.finished else ""
        kept = folder.path if len(runs) == 1 else folder.path.parent
        console.print(
            f"interrupted: {title} {where}at {trained.step:,} of {program.total_steps:,} steps is "
            f"kept in {kept}",
            soft_wrap=True,
        )
        return None
    return list(zip(trained.runs, evaluations, strict=True))


def _evaluate(
    trained: Trained, program: Program, console: Console, interrupted: Callable[[], bool]
) -> list[Evaluation] | None:
    """Evaluate all seeds of each run on fresh episodes; None if that was interrupted."""
    runs, state = trained.runs, trained.state
    if not runs:
        return []
    best = [read_best_returns(run.folder, run.model, run.config.num_seeds) for run in runs]
    title = ", ".join(run.title for run in runs)
    reports = program.evaluate(state, title, console, interrupted)
    if reports is None:
        return None
    return [
        summarize(
            *(run.config, run.model, program.part(state, index)),
            *(program.part(reports, index), best[index]),
        )
        for index, run in enumerate(runs)
    ]


def _train(
    runs: Sequence[ModelRun],
    program: Program,
    title: str,
    console: Console,
    interrupt: Interrupt,
    writes: WriteErrors,
    record: Record,
) -> Trained:
    started = time.perf_counter()
    config, agent = program.config, program.agent
    num_seeds = len(runs) * config.num_seeds
    if isinstance(agent, ReplayAlgorithm):
        total = num_seeds * agent.replay_bytes
        console.print(f"{title}: the replay of {num_seeds} seed(s) takes {total:,} bytes")
    for line in fit_schedules(config)[1]:
        console.print(f"{title}: {line}")
    with contextlib.ExitStack() as opened:
        checkpoints = [
            opened.enter_context(
                _closing(Checkpoints(run.folder, run.model, config.keep_checkpoints), writes)
            )
            for run in runs
        ]
        restored = [kept for each in checkpoints if (kept := each.restore(program.one_run))]
        if restored:
            (step,) = {step for step, _ in restored}
            state = program.stack([state for _, state in restored])
        else:
            with waiting_line(console, f"{title}: compiling the first state"):
                step, state = 0, program.init()
        if step >= program.total_steps:
            console.print(f"{title} has finished its {step:,} steps before")
            return Trained(list(runs), step, state, finished=True)
        if restored and runs_in_processes(state):
            console.print(
                f"{title}: its environments' processes have ended with the run before; each begins "
                "a new episode"
            )
        # Loggers in the terminal show runs that train side by side together.
        together = TERMINAL if len(runs) > 1 else ()
        recorders = [
            opened.enter_context(
                contextlib.closing(
                    Recorder(run, kept, step, program.total_steps, console, writes, together)
                )
            )
            for run, kept in zip(runs, checkpoints, strict=True)
        ]
        logged = LoggedModel(runs[0].folder, title, step, program.total_steps, console)
        terminal = [
            opened.enter_context(contextlib.closing(LOGGERS[name].load()(logged)))
            for name in config.loggers
            if name in together
        ]
        recorders, state = train_chunks(
            program, recorders, state, lambda: interrupt.wanted, record, terminal
        )
        for index, recorder in enumerate(recorders):
            recorder.save(program.part(state, index))
    if not recorders:
        return Trained([], program.total_steps, state, finished=True)
    step = recorders[0].step
    console.print(
        f"{title}: compiled in {program.compile_seconds:.1f} s"
        f"{' (from the cache)' if program.was_cached else ''}, {step:,} steps of "
        f"{num_seeds} seed(s) after {time.perf_counter() - started:.1f} s"
    )
    left = [recorder.run for recorder in recorders]
    return Trained(left, step, state, finished=step >= program.total_steps)


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
        with policy_checked(recorders[0].run.model, step, num_steps):
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
def _closing(checkpoints: Checkpoints, writes: WriteErrors) -> Iterator[Checkpoints]:
    """Close checkpoints at the end; a failed last save counts as any other write error."""
    try:
        yield checkpoints
    finally:
        with writes.caught("checkpoint"):
            checkpoints.close()
