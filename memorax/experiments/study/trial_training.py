"""Training several trials side by side."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree
from rich.console import Console

from memorax.environments import release
from memorax.experiments.files.lock import lock
from memorax.experiments.files.write_errors import WriteErrors
from memorax.experiments.loggers.logger import LoggedModel
from memorax.experiments.loggers.registry import LOGGERS, TERMINAL
from memorax.experiments.run.agents import make_agent
from memorax.experiments.run.best_return import read_best_returns
from memorax.experiments.run.checkpoints import Checkpoints
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.console import waiting_line
from memorax.experiments.run.evaluation import summarize, to_json
from memorax.experiments.run.failures import DivergedError
from memorax.experiments.run.interrupt import Interrupt
from memorax.experiments.run.plotting import plot_learning_curve
from memorax.experiments.run.program import Program, shardings
from memorax.experiments.run.recorder import Recorder
from memorax.experiments.run.training import closing_checkpoints, train_chunks
from memorax.experiments.study.pruning import Reports
from memorax.experiments.study.traced_hyperparameters import agent_with, numbers_of
from memorax.experiments.study.trial import RUNGS, Ending, Trial

ShouldStop = Callable[[Trial, Reports], bool]
"""Whether to stop a trial early, given its reports."""


class TrialsProgram(Program):
    """The program of trials that differ in their seeds and in some hyperparameters only.

    Every array of its states leads with (trials, seeds).

    Args:
        mesh: The devices; each trial's seeds and environments are sharded over all of them.
        config: The configuration of one of the trials.
        flags: The hyperparameters that are arguments of the program.
    """

    def __init__(self, mesh: Mesh, config: TrainConfig[Any], flags: Sequence[str]):
        super().__init__(mesh, config, config.torso, make_agent(config, config.torso))
        self.flags = flags
        self.one_trial, self._configs = self.like, [config]

    def start(self, configs: Sequence[TrainConfig[Any]]) -> None:
        """Train trials of these configurations from now on."""
        self._configs = list(configs)
        self.like = jax.tree.map(self._of_all_trials, self.one_trial)

    def stack(self, states: Sequence[PyTree]) -> PyTree:
        """Return the state of all trials, from that of each."""
        return self._place(jax.tree.map(lambda *leaves: jnp.stack(leaves), *states))

    def part(self, tree: PyTree, index: int) -> PyTree:
        """Return the part of one of the trials."""
        return jax.tree.map(lambda leaf: leaf[index], tree)

    def keep(self, indices: list[int], state: PyTree) -> PyTree:
        """Continue with some of the trials only, and return their state."""
        self.start([self._configs[index] for index in indices])
        kept = np.array(indices, int)
        return self._place(jax.tree.map(lambda leaf: leaf[kept], state))

    def _place(self, state: PyTree) -> PyTree:
        return jax.device_put(state, shardings(self.like))

    def _of_all_trials(self, leaf: Any) -> jax.ShapeDtypeStruct:
        shape = len(self._configs), *leaf.shape
        sharding = NamedSharding(self.mesh, PartitionSpec(None, *leaf.sharding.spec))
        return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=sharding)

    def _map(self, one_run: Callable[..., Any]) -> Callable[..., Any]:
        def one_trial(arguments, *trees):
            seed, numbers = arguments
            return one_run(agent_with(self.config, numbers), seed, *trees)

        return jax.vmap(one_trial)

    def _arguments(self) -> Any:
        seeds = np.array([config.seed for config in self._configs], np.uint32)
        return seeds, numbers_of(self._configs, self.flags)

    def _size(self) -> int:
        return len(self._configs)

    def _spec(self, *axes: str | None) -> PartitionSpec:
        return PartitionSpec(None, *axes)


def train_trials(
    trials: Sequence[Trial],
    program: TrialsProgram,
    should_stop: ShouldStop,
    console: Console,
    interrupt: Interrupt,
) -> bool:
    """Train trials side by side and evaluate those that finish, all by one program.

    Args:
        trials: The trials, with checkpoints of the same step or without any.
        program: The program that trains them.
        should_stop: Asked after each part of training.
        console: Where to show progress.
        interrupt: Whether Ctrl-C or a signal has asked to stop.

    Returns:
        Whether all have ended; if not, their checkpoints are kept.
    """
    program.start([trial.config for trial in trials])
    with contextlib.ExitStack() as opened:
        for trial in trials:
            opened.enter_context(lock(trial.folder.path, trial.folder.kind))
        step, state = _restore(trials, program, console)
        recorders = [
            opened.enter_context(_recording(trial, step, program, console)) for trial in trials
        ]
        by_recorder = dict(zip(map(id, recorders), trials, strict=True))
        terminal = [
            opened.enter_context(contextlib.closing(logger))
            for logger in _terminal_loggers(trials, step, program, console)
        ]

        def record(recorder, steps, metrics, seconds, state):
            trial = by_recorder[id(recorder)]
            ending = _ending(trial, recorder, steps, metrics, seconds, should_stop)
            if ending is None:
                return True
            if ending.outcome == "pruned":
                recorder.save(state())
            release(state())
            trial.end(ending)
            return False

        recorders, state = train_chunks(
            program, recorders, state, lambda: interrupt.wanted, record, terminal
        )
        for index, recorder in enumerate(recorders):
            recorder.save(program.part(state, index))
    if not recorders:
        return True
    if recorders[0].step < program.total_steps:
        return False
    release(state)
    left = [by_recorder[id(recorder)] for recorder in recorders]
    return _evaluate(left, state, program, console, interrupt)


@contextlib.contextmanager
def _recording(trial: Trial, step: int, program: Program, console: Console) -> Iterator[Recorder]:
    """Open what a trial writes while it trains; terminal loggers show all trials together."""
    config, model = trial.config, trial.config.torso
    writes = WriteErrors(config.on_write_error, console)
    opened = Checkpoints(trial.folder, model, config.keep_checkpoints)
    with closing_checkpoints(opened, writes) as checkpoints:
        recorder = Recorder(
            *(trial.folder, config, model, checkpoints, step, program.total_steps, console, writes),
            without=TERMINAL,
        )
        with contextlib.closing(recorder):
            yield recorder
    writes.report()


def _ending(trial, recorder, steps, metrics, seconds, should_stop) -> Ending | None:
    """Record a chunk of a trial, and return how it ended if it did before its time."""
    before, total_steps = recorder.step, recorder.total_steps
    try:
        recorder.log(steps, metrics, seconds)
    except DivergedError as error:
        return Ending("diverged", str(error), trial.reports(total_steps))
    rungs = [step * RUNGS // total_steps for step in (before, recorder.step)]
    if rungs[0] == rungs[1] or recorder.step == total_steps:
        return None
    reports = trial.reports(total_steps)
    if should_stop(trial, reports):
        return Ending("pruned", f"pruned at step {recorder.step:,}", reports)
    return None


def _evaluate(
    trials: Sequence[Trial],
    state: PyTree,
    program: TrialsProgram,
    console: Console,
    interrupt: Interrupt,
) -> bool:
    """Evaluate trials that trained to their end; return whether that was not interrupted."""
    reports = program.evaluate(state, _title(trials), console, lambda: interrupt.wanted)
    if reports is None:
        return False
    for index, trial in enumerate(trials):
        config, model = trial.config, trial.config.torso
        best = read_best_returns(trial.folder, model, config.num_seeds)
        parts = program.part(state, index), program.part(reports, index)
        evaluation = summarize(config, model, *parts, best)
        trial.folder.write("evaluation.json", to_json([evaluation]))
        plot_learning_curve(trial.folder, trial.config)
        trial.end(Ending("finished", reports=trial.reports(program.total_steps)))
    return True


def _title(trials: Sequence[Trial]) -> str:
    return ", ".join(trial.name for trial in trials)


def _restore(
    trials: Sequence[Trial], program: TrialsProgram, console: Console
) -> tuple[int, PyTree]:
    """Return the step that trials resume from, and their state."""
    restored = []
    for trial in trials:
        with contextlib.closing(Checkpoints(trial.folder, trial.config.torso)) as checkpoints:
            restored.append(checkpoints.restore(program.one_trial))
    if None in restored:
        with waiting_line(console, f"{_title(trials)}: compiling the first state"):
            return 0, program.init()
    (step,) = {step for step, _ in restored}
    return step, program.stack([state for _, state in restored])


def last_step(trial: Trial) -> int:
    """Return the step of a trial's last checkpoint, 0 if there is none."""
    if not (trial.folder.path / "checkpoints").is_dir():
        return 0
    with contextlib.closing(Checkpoints(trial.folder, trial.config.torso)) as checkpoints:
        return checkpoints.last_step or 0


def _terminal_loggers(trials, step, program, console):
    title = ", ".join(trial.name for trial in trials)
    logged = LoggedModel(trials[0].folder, title, step, program.total_steps, console)
    for name in trials[0].config.loggers:
        if name in TERMINAL:
            yield LOGGERS[name].load()(logged)
