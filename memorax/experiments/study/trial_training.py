"""Training several trials side by side."""

import contextlib
from collections.abc import Callable, Sequence
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
from memorax.experiments.run.agents import make_agent
from memorax.experiments.run.checkpoints import Checkpoints
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.evaluation import table, to_json
from memorax.experiments.run.failure_reports import report_last_checkpoint
from memorax.experiments.run.failures import DivergedError
from memorax.experiments.run.interrupt import Interrupt
from memorax.experiments.run.program import Program, shardings
from memorax.experiments.run.training import train_and_evaluate
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
        self._configs = [config]

    def start(self, configs: Sequence[TrainConfig[Any]]) -> None:
        """Train trials of these configurations from now on."""
        self._configs = list(configs)
        self.like = jax.tree.map(self._of_all_trials, self.one_run)

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
    program: Program,
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
    config = program.config
    writes = WriteErrors(config.on_write_error, console)
    by_title, runs = {trial.title: trial for trial in trials}, [trial.run for trial in trials]

    def record(recorder, steps, metrics, seconds, state):
        trial = by_title[recorder.run.title]
        ending = _ending(trial, recorder, steps, metrics, seconds, should_stop)
        if ending is None:
            return True
        if ending.outcome == "pruned":
            recorder.save(state())
        release(state())
        trial.end(ending)
        return False

    with contextlib.ExitStack() as locked:
        for trial in trials:
            locked.enter_context(lock(trial.folder.path, trial.folder.kind))
        try:
            finished = train_and_evaluate(runs, program, console, interrupt, writes, record)
        except DivergedError as error:
            # Where a policy is not finite, a program does not say of which trial.
            if len(trials) > 1:
                raise
            trials[0].end(Ending("diverged", str(error), trials[0].reports()))
            finished = []
        for run, evaluation in finished or ():
            trial = by_title[run.title]
            with report_last_checkpoint(trial.model, trial.folder):
                trial.folder.write("evaluation.json", to_json([evaluation]))
                trial.end(Ending("finished", reports=trial.reports()))
    writes.report()
    if finished and len(trials) == 1:
        console.print(table(config, [evaluation for _, evaluation in finished]))
    return finished is not None


def _ending(trial, recorder, steps, metrics, seconds, should_stop) -> Ending | None:
    """Record a chunk of a trial, and return how it ended if it did before its time."""
    before, total_steps = recorder.step, recorder.total_steps
    try:
        recorder.log(steps, metrics, seconds)
    except DivergedError as error:
        return Ending("diverged", str(error), trial.reports())
    rungs = [step * RUNGS // total_steps for step in (before, recorder.step)]
    if rungs[0] == rungs[1] or recorder.step == total_steps:
        return None
    reports = trial.reports()
    if should_stop(trial, reports):
        return Ending("pruned", f"pruned at step {recorder.step:,}", reports)
    return None


def last_step(trial: Trial) -> int:
    """Return the step of a trial's last checkpoint, 0 if there is none."""
    if not (trial.folder.path / "checkpoints").is_dir():
        return 0
    with contextlib.closing(Checkpoints(trial.folder, trial.model)) as checkpoints:
        return checkpoints.last_step or 0
