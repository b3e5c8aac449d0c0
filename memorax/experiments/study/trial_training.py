"""Training several trials at once."""

import contextlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree
from rich.console import Console

from memorax.algorithms.evaluation import EvaluationReport
from memorax.environments import release
from memorax.experiments.files.lock import lock
from memorax.experiments.files.write_errors import WriteErrors
from memorax.experiments.loggers.combined import CombinedLogger
from memorax.experiments.loggers.logger import LoggedModel, Logger, means_over_updates
from memorax.experiments.loggers.registry import LOGGERS, TERMINAL
from memorax.experiments.run.agents import make_agent, num_updates
from memorax.experiments.run.checkpoints import Checkpoints
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.devices import seed_keys
from memorax.experiments.run.evaluation import (
    EvaluationProgress,
    evaluation_keys,
    play_episodes,
    summarize,
    to_json,
)
from memorax.experiments.run.folder import Stopwatch
from memorax.experiments.run.interrupt import Interrupt
from memorax.experiments.run.plotting import plot_learning_curve
from memorax.experiments.run.training import (
    DivergedError,
    check_losses,
    chunk_updates,
    save,
    steps_to_train,
)
from memorax.experiments.study.pruning import Reports
from memorax.experiments.study.traced import Numbers, agent_with, numbers_of
from memorax.experiments.study.trial import RUNGS, Ending, Trial

ShouldStop = Callable[[Trial, Reports], bool]
"""Whether to give a trial up after what it reported."""


class Program:
    """What trains trials that differ in their seeds and in some real numbers only.

    Its functions take the numbers, which lead with (trials,), and keys and states, which lead with
    (trials, seeds).

    Args:
        config: The configuration of one of them.
        flags: The options whose numbers are arguments of the program.
    """

    def __init__(self, config: TrainConfig[Any], flags: Sequence[str]):
        agent = make_agent(config, config.torso)
        self._config = config
        self.flags = flags
        self.total_steps = steps_to_train(config)
        self.steps_per_update = agent.steps_per_update
        longest = config.checkpoint_every // agent.steps_per_update
        self.piece_steps = chunk_updates(num_updates(config), longest) * agent.steps_per_update
        self.init = jax.jit(self._over_trials(lambda agent, key: agent.init(key)))
        self._begin = jax.jit(
            self._over_trials(
                lambda agent, key, state: agent.begin_evaluation(
                    key, state, config.evaluation_episodes
                )
            )
        )
        self._play = jax.jit(self._play_over_trials)
        self._train = self._over_trials(
            lambda agent, key, state: agent.train(key, state, self.piece_steps)
        )
        self._compiled: dict[int, Any] = {}

    def compiled(self, numbers: Numbers, keys: Array, state: PyTree) -> Any:
        """Return what trains for a piece, compiled once for as many trials as there are."""
        if len(keys) not in self._compiled:
            train = jax.jit(self._train, donate_argnums=2)
            self._compiled[len(keys)] = train.lower(numbers, keys, state).compile()
        return self._compiled[len(keys)]

    def evaluate(
        self,
        numbers: Numbers,
        keys: Array,
        state: PyTree,
        progress: EvaluationProgress,
        interrupted: Callable[[], bool],
    ) -> EvaluationReport | None:
        """Return what fresh episodes of all trials came to, or None if that was interrupted."""
        return play_episodes(
            partial(self._begin, numbers, keys, state),
            partial(self._play, numbers, state),
            *(self._config, progress, interrupted),
        )

    def _play_over_trials(self, numbers, state, episodes, first_step, last_step):
        play = self._over_trials(
            lambda agent, state, episodes: agent.continue_evaluation(
                state, episodes, first_step, last_step
            )
        )
        return play(numbers, state, episodes)

    def _over_trials(self, method):
        def one_trial(numbers, *arguments):
            agent = agent_with(self._config, numbers)
            return jax.vmap(lambda *each: method(agent, *each))(*arguments)

        return jax.vmap(one_trial)


class Lane:
    """A trial while it trains: what it writes down.

    Args:
        trial: The trial.
        step: Where it goes on from.
        program: What trains it.
        console: The terminal.
    """

    def __init__(self, trial: Trial, step: int, program: Program, console: Console):
        config, model = trial.config, trial.config.torso
        self.trial = trial
        self.step = step
        self._total_steps = program.total_steps
        self._return = np.nan
        self._writes = WriteErrors(config.on_write_error, console)
        self._checkpoints = Checkpoints(trial.folder, model, config.keep_checkpoints)
        self._stopwatch = Stopwatch(trial.folder, model)
        self._log = CombinedLogger(
            [name for name in config.loggers if name not in TERMINAL],
            LoggedModel(trial.folder, model, step, program.total_steps, console),
            self._writes,
        )

    def append(self, steps: range, metrics: dict[str, np.ndarray], seconds: float) -> None:
        """Write down how a piece of training went.

        Raises:
            DivergedError: If a loss is no number any more.
        """
        config = self.trial.config
        self._log.append(steps, metrics, seconds)
        self._stopwatch.add(config.num_seeds * (steps[-1] - self.step), seconds)
        check_losses(config, config.torso, steps, metrics)
        self.step = steps[-1]
        self._return = float(means_over_updates(metrics["episode_return"]).mean())

    def save(self, state: PyTree) -> None:
        """Save a checkpoint, and what was logged before it."""
        self._log.flush()
        save(self._checkpoints, self._stopwatch, self.step, state, self._return, self._writes)

    def reports(self) -> tuple[float | None, ...]:
        """Return the trial's mean return in each part of training so far."""
        return self.trial.reports(self._total_steps)

    def close(self) -> None:
        """Let go of the files."""
        self._log.close()
        with self._writes.caught("checkpoint"):
            self._checkpoints.close()
        self._writes.report()


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
        program: What trains them.
        should_stop: Asked after each part of training.
        console: Where to show how it goes.
        interrupt: The wish to stop.

    Returns:
        Whether all have ended; if not, what was reached is kept.
    """
    with contextlib.ExitStack() as opened:
        for trial in trials:
            opened.enter_context(lock(trial.folder.path, trial.folder.kind))
        step, state = _restore(trials, program)
        lanes = [
            opened.enter_context(contextlib.closing(Lane(trial, step, program, console)))
            for trial in trials
        ]
        terminal = [
            opened.enter_context(contextlib.closing(logger))
            for logger in _terminal_loggers(trials, step, program, console)
        ]
        lanes, state = _train(lanes, state, program, should_stop, terminal, interrupt)
        for index, lane in enumerate(lanes):
            lane.save(_lane(state, index))
    if lanes and lanes[0].step < program.total_steps:
        return False
    if not lanes:
        return True
    release(state)
    return _evaluate([lane.trial for lane in lanes], state, program, console, interrupt)


def _train(
    lanes: list[Lane],
    state: PyTree,
    program: Program,
    should_stop: ShouldStop,
    terminal: list[Logger],
    interrupt: Interrupt,
) -> tuple[list[Lane], PyTree]:
    """Train until the end or a wish to stop, and return the trials that are left."""
    step = lanes[0].step
    while lanes and step < program.total_steps and not interrupt.wanted:
        configs = [lane.trial.config for lane in lanes]
        numbers = numbers_of(configs, program.flags)
        keys = jnp.stack([_train_keys(config, step) for config in configs])
        train = program.compiled(numbers, keys, state)
        started = time.perf_counter()
        state, metrics = jax.block_until_ready(train(numbers, keys, state))
        seconds = time.perf_counter() - started
        metrics = {name: np.asarray(values) for name, values in metrics.items()}
        previous, step = step, step + program.piece_steps
        steps = range(previous + program.steps_per_update, step + 1, program.steps_per_update)
        for logger in terminal:
            together = {name: np.concatenate(values) for name, values in metrics.items()}
            logger.append(steps, together, seconds)
        left = []
        for index, lane in enumerate(lanes):
            piece = {name: values[index] for name, values in metrics.items()}
            ending = _ending(lane, steps, piece, seconds / len(lanes), program, should_stop)
            if ending is None:
                left.append(index)
                continue
            if ending.outcome == "pruned":
                lane.save(_lane(state, index))
            release(_lane(state, index))
            lane.trial.end(ending)
        every = configs[0].checkpoint_every
        if step // every > previous // every:
            for index in left:
                lanes[index].save(_lane(state, index))
        if len(left) < len(lanes):
            lanes = [lanes[index] for index in left]
            state = _lane(state, np.array(left, int))
    return lanes, state


def _ending(lane, steps, metrics, seconds, program, should_stop) -> Ending | None:
    """Write a piece of a trial down, and return how it ended if it did before its time."""
    begun = lane.step
    try:
        lane.append(steps, metrics, seconds)
    except DivergedError as error:
        return Ending("diverged", str(error), lane.reports())
    parts = [step * RUNGS // program.total_steps for step in (begun, lane.step)]
    if parts[0] == parts[1] or lane.step == program.total_steps:
        return None
    reports = lane.reports()
    if should_stop(lane.trial, reports):
        return Ending("pruned", f"pruned at step {lane.step:,}", reports)
    return None


def _evaluate(
    trials: Sequence[Trial],
    state: PyTree,
    program: Program,
    console: Console,
    interrupt: Interrupt,
) -> bool:
    """Evaluate trials that went to their end; return whether that was not interrupted."""
    configs = [trial.config for trial in trials]
    keys = jnp.stack([evaluation_keys(config) for config in configs])
    title = ", ".join(trial.name for trial in trials)
    report = program.evaluate(
        *(numbers_of(configs, program.flags), keys, state),
        EvaluationProgress(title, configs[0], console),
        lambda: interrupt.wanted,
    )
    if report is None:
        return False
    for index, (trial, config) in enumerate(zip(trials, configs, strict=True)):
        evaluation = summarize(config, config.torso, _lane(state, index), _lane(report, index))
        trial.folder.write("evaluation.json", to_json([evaluation]))
        plot_learning_curve(trial.folder, config)
        trial.end(Ending("finished", reports=trial.reports(program.total_steps)))
    return True


def _restore(trials: Sequence[Trial], program: Program) -> tuple[int, PyTree]:
    """Return the step that trials go on from, and their states."""
    configs = [trial.config for trial in trials]
    arguments = numbers_of(configs, program.flags), jnp.stack([*map(seed_keys, configs)])
    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype),
        jax.eval_shape(program.init, *arguments),
    )
    restored = []
    for trial in trials:
        checkpoints = Checkpoints(trial.folder, trial.config.torso)
        with contextlib.closing(checkpoints):
            restored.append(checkpoints.restore(like))
    if None in restored:
        return 0, program.init(*arguments)
    (step,) = {step for step, _ in restored}
    return step, jax.tree.map(lambda *leaves: jnp.stack(leaves), *(state for _, state in restored))


def _train_keys(config: TrainConfig[Any], step: int) -> Array:
    """Return the keys of the piece that begins at a step, those that a run by itself would have."""
    return jax.vmap(lambda key: jax.random.fold_in(key, step))(seed_keys(config))


def last_step(trial: Trial) -> int:
    """Return the step of a trial's last checkpoint, 0 if there is none."""
    if not (trial.folder.path / "checkpoints").is_dir():
        return 0
    with contextlib.closing(Checkpoints(trial.folder, trial.config.torso)) as checkpoints:
        return checkpoints.last_step or 0


def _terminal_loggers(trials, step, program, console):
    config = trials[0].config
    title = ", ".join(trial.name for trial in trials)
    logged = LoggedModel(trials[0].folder, title, step, program.total_steps, console)
    for name in config.loggers:
        if name in TERMINAL:
            yield LOGGERS[name].load()(logged)


def _lane(tree: PyTree, index: int | np.ndarray) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[index], tree)
