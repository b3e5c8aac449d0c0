"""Training a run: every model, every seed, with what it leaves on disk."""

import contextlib
import math
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

import jax
import numpy as np
from jaxtyping import Array, PyTree
from rich.console import Console

from memorax.algorithms import Algorithm, ReplayAlgorithm
from memorax.environments import process_failure, release
from memorax.experiments.agents import make_agent, num_updates
from memorax.experiments.checkpoints import Checkpoints, Choice
from memorax.experiments.config import TrainConfig
from memorax.experiments.evaluation import Evaluation, evaluate_model, table, to_json
from memorax.experiments.loggers.combined import CombinedLogger
from memorax.experiments.loggers.logger import LoggedModel, means_over_updates
from memorax.experiments.plotting import plot_learning_curve
from memorax.experiments.run_folder import RunFolder, Stopwatch


class Interrupt:
    """Turns the first Ctrl-C into a wish to stop; the second one stops at once."""

    def __init__(self, console: Console):
        self.wanted = False
        self._console = console

    def __enter__(self) -> "Interrupt":
        """Begin to listen."""
        self._previous = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        """Leave Ctrl-C as it was."""
        signal.signal(signal.SIGINT, self._previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.wanted:
            raise KeyboardInterrupt
        self.wanted = True
        self._console.print("stopping after this piece; Ctrl-C again stops at once")


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
    config: TrainConfig, agents: dict[str, Algorithm], folder: RunFolder, console: Console
) -> list[Evaluation] | None:
    """Train every model of a run, or go on where it stopped, and evaluate them.

    Args:
        config: The run's configuration.
        agents: The agent of each of its models, from ``make_agents``.
        folder: Its folder.
        console: Where to show how it goes.

    Returns:
        The evaluations, or None if the run was interrupted; what was reached is kept either way.
    """
    console.print(f"run folder: {folder.path}")
    evaluations = []
    with Interrupt(console) as interrupt:
        for model, agent in agents.items():
            with _environments_may_fail(model, folder):
                trained = _train_model(config, model, agent, folder, console, interrupt)
            plot_learning_curve(folder, config)
            if not trained.finished:
                console.print(
                    f"interrupted: {model} at {trained.step:,} of {_total_steps(config):,} steps "
                    f"is kept in {folder.path}"
                )
                return None
            release(trained.state)
            with _environments_may_fail(model, folder):
                evaluations.append(
                    evaluate_model(config, model, agent, trained.state, config.evaluation_episodes)
                )
    folder.write("evaluation.json", to_json(evaluations))
    console.print(table(config, evaluations))
    console.print(f"learning curve: {folder.path / 'learning_curve.png'}")
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
        ValueError: If there is no such checkpoint, or it does not fit or is damaged.
    """
    like = jax.eval_shape(jax.vmap(agent.init), _init_keys(config))
    with contextlib.closing(Checkpoints(folder, model)) as checkpoints:
        restored = checkpoints.restore(like, choice)
    if restored is None:
        raise ValueError(f"{folder.path} holds no checkpoint of {model}")
    return restored[1]


def _train_model(
    config: TrainConfig,
    model: str,
    agent: Algorithm,
    folder: RunFolder,
    console: Console,
    interrupt: Interrupt,
) -> Trained:
    started = time.perf_counter()
    if isinstance(agent, ReplayAlgorithm):
        total = config.num_seeds * agent.replay_bytes
        console.print(f"{model}: the replay of {config.num_seeds} seed(s) takes {total:,} bytes")
    init = jax.jit(jax.vmap(agent.init))
    stopwatch = Stopwatch(folder, model)
    total_steps = _total_steps(config)
    longest = config.checkpoint_every // agent.steps_per_update
    chunk_steps = _chunk_updates(num_updates(config), longest) * agent.steps_per_update
    with contextlib.closing(Checkpoints(folder, model, config.keep_checkpoints)) as checkpoints:
        restored = checkpoints.restore(jax.eval_shape(init, _init_keys(config)))
        step, state = restored or (0, init(_init_keys(config)))
        saved_step, episode_return = step, math.nan
        logged = LoggedModel(folder, config, model, step, total_steps, console)
        with contextlib.closing(CombinedLogger(config.loggers, logged)) as log:
            train = (
                jax.jit(
                    jax.vmap(agent.train, in_axes=(0, 0, None)), static_argnums=2, donate_argnums=1
                )
                .lower(_train_keys(config, step), state, chunk_steps)
                .compile()
            )
            compile_seconds = time.perf_counter() - started
            while step < total_steps and not interrupt.wanted:
                chunk_started = time.perf_counter()
                state, metrics = jax.block_until_ready(train(_train_keys(config, step), state))
                seconds = time.perf_counter() - chunk_started
                stopwatch.add(config.num_seeds * chunk_steps, seconds)
                steps = range(
                    step + agent.steps_per_update, step + chunk_steps + 1, agent.steps_per_update
                )
                log.append(steps, metrics, seconds)
                _check_losses(config, model, steps, metrics, saved_step, folder)
                due = step // config.checkpoint_every
                step += chunk_steps
                returns = means_over_updates(np.asarray(metrics["episode_return"]))
                episode_return = float(returns.mean())
                if step // config.checkpoint_every > due:
                    log.flush()
                    stopwatch.flush()
                    checkpoints.save(step, state, episode_return)
                    saved_step = step
        stopwatch.flush()
        checkpoints.save(step, state, episode_return)
    console.print(
        f"{model}: compiled in {compile_seconds:.1f} s, {step:,} steps of "
        f"{config.num_seeds} seed(s) after {time.perf_counter() - started:.1f} s"
    )
    return Trained(step, state, finished=step >= total_steps)


def _check_losses(config, model, steps, metrics, saved_step, folder) -> None:
    """Stop at the first loss that is no number, before such a state is saved."""
    # Before a replay is learned from there is no loss.
    first = getattr(config.algorithm, "learning_starts", 0)
    for index, step in enumerate(steps):
        for name, values in metrics.items():
            seeds = np.flatnonzero(~np.isfinite(np.asarray(values)[:, index]))
            if "loss" in name and step > first and seeds.size:
                raise DivergedError(
                    f"{model}: {name} of seed(s) {', '.join(map(str, seeds))} is not finite at "
                    f"step {step:,}; {_last_good_state(saved_step, folder)}"
                )


@contextlib.contextmanager
def _environments_may_fail(model: str, folder: RunFolder) -> Iterator[None]:
    """Say what is left of a run if an environment fails in its process."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        failure = process_failure(error)
        if failure is None:
            raise
        checkpoints = Checkpoints(folder, model)
        kept = _last_good_state(checkpoints.last_step, folder)
        checkpoints.close()
        raise EnvironmentFailedError(f"{model}: {failure}\n{kept}") from error


def _last_good_state(step: int | None, folder: RunFolder) -> str:
    kept = f"checkpoint of step {step:,}" if step else "no checkpoint yet"
    return f"last good state: {kept} in {folder.path}"


def _total_steps(config: TrainConfig) -> int:
    return num_updates(config) * config.algorithm.num_envs * config.algorithm.num_steps


def _chunk_updates(updates: int, longest: int, most_chunks: int = 50) -> int:
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


def _init_keys(config: TrainConfig) -> Array:
    return jax.random.split(jax.random.key(config.seed), config.num_seeds)


def _train_keys(config: TrainConfig, step: int) -> Array:
    """Return the keys of the piece that begins at a step, so that a resumed run draws the same."""
    return jax.vmap(lambda key: jax.random.fold_in(key, step))(_init_keys(config))
