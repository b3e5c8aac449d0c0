"""Evaluation of trained agents, with confidence intervals."""

import contextlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.stats
from jaxtyping import Array, Float, PyTree
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from memorax.algorithms import Algorithm
from memorax.algorithms.evaluation import EvaluationReport, EvaluationState
from memorax.environments import release
from memorax.experiments.loggers.registry import TERMINAL
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.processes import any_process
from memorax.experiments.run.terminal_table import FittedTable

SECONDS_AT_ONCE = 0.5
"""The longest time that compiled episodes run between progress updates and checks for Ctrl-C."""
SECONDS_BETWEEN_LINES = 30
"""Between lines on how an evaluation goes, where no bar shows it."""
ACTIONS = {"most likely": True, "sampled": False}
"""The actions that agents are evaluated with, and whether they are deterministic."""


class Reports(NamedTuple):
    """The reports of the evaluation of all seeds.

    Attributes:
        most_likely: With the most likely, or most valued, actions.
        sampled: On the same episodes, with actions drawn as at the end of training.
    """

    most_likely: EvaluationReport
    sampled: EvaluationReport


@dataclass(frozen=True)
class Returns:
    """The returns of fresh episodes.

    The return of a truncated episode is its sum of rewards so far, and counts as any
    other: every mean is that of the task with a time limit. To leave such episodes out would favour
    what ends early.

    Attributes:
        seed_returns: Each seed's mean return.
        mean_return: The mean over seeds.
        low: Lower end of the mean's 95 % bootstrap interval over seeds; NaN for a single seed.
        high: Its upper end.
        num_ended: Episodes that ended by themselves, over all seeds.
        num_cut_off: Episodes that were truncated, over all seeds.
    """

    seed_returns: list[float]
    mean_return: float
    low: float
    high: float
    num_ended: int
    num_cut_off: int


@dataclass(frozen=True)
class Evaluation(Returns):
    """The returns of one model's agents on fresh episodes, with their most likely actions.

    Attributes:
        model: The torso's name.
        num_parameters: Parameters of actor and critic together.
        carry_bytes: Size of the networks' carries for one environment.
        num_episodes: Episodes of each seed.
        max_steps: Steps after which episodes were truncated.
        sampled: The returns of the same episodes with sampled actions.
        best_seed_returns: Each seed's best mean return while training, as ``best_mean_return``
            defines it; NaN if no episode ended.
        best_return: The mean over seeds.
    """

    model: str
    num_parameters: int
    carry_bytes: int
    num_episodes: int
    max_steps: int
    sampled: Returns
    best_seed_returns: list[float]
    best_return: float


def play_episodes(
    begin: Callable[[], EvaluationState],
    play: Callable[[EvaluationState, np.int32, np.int32], EvaluationState],
    config: TrainConfig,
    progress: "EvaluationProgress",
    interrupted: Callable[[], bool],
) -> EvaluationReport | None:
    """Play the episodes of an evaluation, a fraction of a second at a time.

    Args:
        begin: Begins them.
        play: Plays them from one step to another.
        config: The run's configuration, which says when episodes are truncated.
        progress: Shows how it goes.
        interrupted: Whether to stop.

    Returns:
        What was seen, or None if it was interrupted.
    """
    step, num_steps = 0, 1
    episodes = begin()
    try:
        with contextlib.closing(progress):
            while step < config.evaluation_steps and not np.all(episodes.report.completed):
                if any_process(interrupted()):
                    return None
                last_step = min(step + num_steps, config.evaluation_steps)
                started = time.perf_counter()
                episodes = jax.block_until_ready(
                    play(episodes, np.int32(step), np.int32(last_step))
                )
                step = last_step
                progress.update(step, np.asarray(episodes.report.completed))
                # Which takes seconds the first time, to compile.
                if any_process(time.perf_counter() - started < SECONDS_AT_ONCE / 2):
                    num_steps *= 2
    finally:
        release(episodes.env_state)
    return episodes.report


class EvaluationProgress:
    """Shows the progress of an evaluation: a bar in a terminal, else a line now and then.

    Args:
        title: Who is evaluated.
        config: The run's configuration.
        console: Where to show it.
    """

    def __init__(self, title: str, config: TrainConfig, console: Console):
        self._title = title
        self._max_steps = config.evaluation_steps
        self._console = console
        self._printed = time.monotonic()
        self._bar: Progress | None = None
        if console.is_terminal and set(TERMINAL) & set(config.loggers):
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.fields[status]}, {task.elapsed:.0f} s", markup=False),
                console=console,
                transient=True,
            )
            self._bar.add_task(f"{title}: evaluation", total=None, status="compiling")
            self._bar.start()

    def update(self, step: int, completed: np.ndarray) -> None:
        """Show up to which step episodes have been played, and which of them have ended."""
        ended, total = int(completed.sum()), completed.size
        status = (
            f"{ended:,} of {total:,} episodes ended, step {step:,} of at most {self._max_steps:,}"
        )
        if self._bar is not None:
            (task,) = self._bar.tasks
            self._bar.update(task.id, completed=ended, total=total, status=status)
        elif time.monotonic() - self._printed > SECONDS_BETWEEN_LINES:
            self._printed = time.monotonic()
            self._console.print(f"{self._title}: evaluation: {status}", soft_wrap=True)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()


def summarize(
    config: TrainConfig,
    model: str,
    state: PyTree,
    reports: Reports,
    best_seed_returns: Float[np.ndarray, " seeds"],
) -> Evaluation:
    """Return the evaluation of agents from the episodes that they have played.

    Args:
        config: The run's configuration.
        model: The torso's name.
        state: The state of all seeds.
        reports: The reports of all seeds.
        best_seed_returns: Each seed's best mean return while training.
    """
    return Evaluation(
        model=model,
        num_parameters=sum(math.prod(leaf.shape[1:]) for leaf in jax.tree.leaves(state.params)),
        carry_bytes=sum(leaf.nbytes for leaf in jax.tree.leaves(state.carry))
        // (config.num_seeds * config.algorithm.num_envs),
        num_episodes=reports.most_likely.episode_returns.shape[-1],
        max_steps=config.evaluation_steps,
        **asdict(_returns(reports.most_likely)),
        sampled=_returns(reports.sampled),
        best_seed_returns=best_seed_returns.tolist(),
        best_return=float(best_seed_returns.mean()),
    )


def _returns(report: EvaluationReport) -> Returns:
    seed_returns = np.asarray(report.episode_returns, np.float64).mean(axis=-1)
    completed = np.asarray(report.completed)
    low, high = bootstrap_interval(seed_returns)
    return Returns(
        seed_returns=seed_returns.tolist(),
        mean_return=float(seed_returns.mean()),
        low=low,
        high=high,
        num_ended=int(completed.sum()),
        num_cut_off=int((~completed).sum()),
    )


def check_same_spaces(trained: Algorithm, evaluated: Algorithm) -> None:
    """Check that an agent can play a task with other parameters than it was trained with.

    Args:
        trained: With the task that it was trained on.
        evaluated: With the other one.

    Raises:
        ValueError: If observations or actions of the two differ in shape or kind.
    """
    for what in ("observation", "action"):
        before, after = (
            getattr(agent.env, f"{what}_space")(agent.env_params) for agent in (trained, evaluated)
        )
        if _outline(before) != _outline(after):
            raise ValueError(
                f"environment_parameters must leave the {what} space as it was in training, "
                f"{before}, got {after}"
            )


def _outline(space: Any) -> Any:
    """Return what networks depend on in a space: its parts, kinds, shapes and sizes."""
    parts, structure = jax.tree.flatten(space)
    return structure, [
        (type(part), getattr(part, "shape", ()), getattr(part, "n", None)) for part in parts
    ]


def evaluation_key(seed: Any) -> Array:
    """Return the key of a run's evaluation, apart from every key that it trains with."""
    return jax.random.fold_in(jax.random.key(seed), 2**31)


def bootstrap_interval(values: np.ndarray) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of a mean; NaN for fewer than two values.

    The percentile interval, since three seeds are few and often equal, where the bias-corrected
    one is undefined.

    Source: Efron and Tibshirani 1993, "An introduction to the bootstrap", chapter 13.
    """
    if len(values) < 2:
        return math.nan, math.nan
    result = scipy.stats.bootstrap(
        (values,), np.mean, confidence_level=0.95, method="percentile", rng=0
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def to_json(evaluations: list[Evaluation]) -> str:
    """Return evaluations as JSON."""
    return json.dumps([asdict(evaluation) for evaluation in evaluations], indent=2) + "\n"


def table(config: TrainConfig, evaluations: list[Evaluation]) -> FittedTable:
    """Show evaluations side by side."""
    seeds = "seed" if config.num_seeds == 1 else "seeds"
    rows = [
        (
            evaluation.model,
            "no" if evaluation.model == "mlp" else "yes",
            f"{evaluation.num_parameters:,}",
            f"{evaluation.mean_return:.3f}",
            "" if math.isnan(evaluation.low) else f"[{evaluation.low:.3f}, {evaluation.high:.3f}]",
            ", ".join(f"{value:.3f}" for value in evaluation.seed_returns),
            f"{evaluation.sampled.mean_return:.3f}",
            "" if math.isnan(evaluation.best_return) else f"{evaluation.best_return:.3f}",
        )
        for evaluation in evaluations
    ]
    return FittedTable(
        (
            *("torso", "memory", "parameters"),
            *("most likely", "95 % interval", "each seed", "sampled", "best in training"),
        ),
        {"": rows},
        title=f"{config.task}\n{config.num_seeds} {seeds}, {evaluations[0].num_episodes} fresh "
        "episodes each: mean return",
        notes=[
            f"{evaluation.model}{actions}: "
            + truncation_note(returns.num_ended, returns.num_cut_off, evaluation.max_steps)
            for evaluation in evaluations
            for actions, returns in (("", evaluation), (", sampled actions", evaluation.sampled))
            if returns.num_cut_off
        ],
        words=2,
    )


def table_by_parameter(
    config: TrainConfig,
    parameter: str,
    values: Sequence[int | float | bool | str],
    evaluations: Sequence[Sequence[Evaluation]],
) -> FittedTable:
    """Show how the models of a run depend on a parameter of the task: a row for each value.

    Args:
        config: The run's configuration.
        parameter: The parameter.
        values: Its values.
        evaluations: For each of them, each model's evaluation.
    """
    models = [evaluation.model for evaluation in evaluations[0]]
    rows = [
        (
            str(value),
            *(
                f"{evaluation.mean_return:.3f}"
                + ("" if math.isnan(evaluation.low) else f" [{evaluation.low:.3f}, ")
                + ("" if math.isnan(evaluation.low) else f"{evaluation.high:.3f}]")
                for evaluation in of_models
            ),
        )
        for value, of_models in zip(values, evaluations, strict=True)
    ]
    seeds = "seed" if config.num_seeds == 1 else "seeds"
    return FittedTable(
        (parameter, *models),
        {"": rows},
        title=f"trained on {config.task}\n{config.num_seeds} {seeds}, "
        f"{evaluations[0][0].num_episodes} fresh episodes each: mean return, 95 % interval",
        words=1,
    )


def truncation_note(num_ended: int, num_cut_off: int, max_steps: int) -> str:
    """Return a note on the truncated episodes of an evaluation, which count."""
    return (
        f"{num_ended:,} of {num_ended + num_cut_off:,} evaluation episodes ended; the other "
        f"{num_cut_off:,} were truncated after {max_steps:,} steps (--evaluation-steps) and "
        "count with their return so far"
    )
