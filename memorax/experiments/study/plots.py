"""Plots of comparisons and sweeps."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from memorax.experiments.run.folder import Curves
from memorax.experiments.run.plotting import (
    count_seeds,
    literal_names,
    make_panels,
    model_label,
    save_figure,
)
from memorax.experiments.study.statistics import (
    interquartile_mean,
    performance_profile,
    stratified_bootstrap_interval,
)

MOST_POINTS = 100
"""Of a line; updates between them are averaged."""

Scores = Float[np.ndarray, "runs tasks"]


@literal_names
def plot_learning_curves(path: Path, tasks: Mapping[str, Mapping[str, Curves]]) -> None:
    """Draw how models learn, a panel for each task.

    A line is the interquartile mean over seeds, its band the 95 % bootstrap interval.

    Args:
        path: Where to write the picture.
        tasks: By task and model, the steps and each seed's return, without gaps.
    """
    figure, panels = make_panels(len(tasks))
    for axes, (task, models) in zip(panels, tasks.items(), strict=True):
        for model, (steps, returns) in models.items():
            edges = np.linspace(0, len(steps), min(len(steps), MOST_POINTS) + 1).astype(int)[:-1]
            widths = np.diff([*edges, len(steps)])
            means = np.add.reduceat(returns, edges, axis=1) / widths
            _draw(axes, model, steps[edges + widths - 1], means, _mean_at_each_point)
        axes.set_xlabel("environment steps of each seed")
        axes.set_ylabel("return while training")
        axes.set_title(task)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.xaxis.set_major_locator(_few_ticks())
    counts = (len(returns) for models in tasks.values() for _, returns in models.values())
    seeds = count_seeds(*counts)
    figure.suptitle(f"Return while training: interquartile mean of {seeds}, 95 % interval")
    _finish(figure, panels, path)


@literal_names
def plot_performance_profiles(path: Path, panels: Mapping[str, Mapping[str, Scores]]) -> None:
    """Draw which share of the runs is above each return or score, a panel for each of them.

    Args:
        path: Where to write the picture.
        panels: Scores of each run on each task, by title and model.
    """
    figure, all_axes = make_panels(len(panels))
    for axes, (title, models) in zip(all_axes, panels.items(), strict=True):
        for model, scores in models.items():
            thresholds = _thresholds(models)
            _draw(
                axes,
                model,
                thresholds,
                scores,
                lambda scores, thresholds=thresholds: performance_profile(scores, thresholds),
            )
        axes.set_xlabel(title)
        axes.set_ylabel("share of runs above")
        axes.set_ylim(-0.02, 1.02)
    counts = (len(scores) for models in panels.values() for scores in models.values())
    seeds = count_seeds(*counts)
    figure.suptitle(f"Performance profiles after training: {seeds} of each model, 95 % interval")
    _finish(figure, all_axes, path)


@dataclass(frozen=True)
class Reached:
    """The return of a trial of a sweep with a value of an option.

    Attributes:
        value: The value that it was given, as an axis shows it.
        reached: Its return.
        low: Lower end of the interval of its return, None if there is none.
        high: Its upper end.
    """

    value: float | str
    reached: float | None
    low: float | None
    high: float | None


@literal_names
def plot_searched_values(
    path: Path, title: str, options: Mapping[str, Sequence[Reached]], logarithmic: Collection[str]
) -> None:
    """Draw what trials reached against what they took, a panel for each option.

    Args:
        path: Where to write the picture.
        title: What was trained, on what, and how often.
        options: By option, each trial's value and return.
        logarithmic: The options that were searched by their logarithm.
    """
    figure, panels = make_panels(len(options))
    for axes, (option, trials) in zip(panels, options.items(), strict=True):
        # A number among words is a word.
        words = any(isinstance(trial.value, str) for trial in trials)
        for trial in trials:
            value = str(trial.value) if words else trial.value
            axes.plot(value, trial.reached, "o", color="C0", alpha=0.7)
            if trial.low is not None and trial.high is not None:
                axes.vlines(value, trial.low, trial.high, color="C0", alpha=0.4)
        if option in logarithmic:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(_few_logarithmic_ticks())
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter("")
        axes.set_xlabel(option)
        axes.set_ylabel("return after training")
    figure.suptitle(title)
    _finish(figure, panels, path)


def _mean_at_each_point(returns):
    return interquartile_mean(np.swapaxes(returns, -1, -2)[..., None])


def _thresholds(models):
    reached = np.concatenate([scores.ravel() for scores in models.values()])
    margin = 0.05 * np.ptp(reached) or 0.5
    return np.linspace(reached.min() - margin, reached.max() + margin, 201)


def _draw(axes, model, positions, values, statistic):
    low, high = stratified_bootstrap_interval(values, statistic)
    (line,) = axes.plot(positions, statistic(values), label=model_label(model))
    axes.fill_between(positions, low, high, alpha=0.15, color=line.get_color(), linewidth=0)


def _few_ticks():
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    return MaxNLocator(4)


def _few_logarithmic_ticks():
    from matplotlib.ticker import LogLocator  # noqa: PLC0415

    return LogLocator(subs=(1, 3), numticks=8)


def _finish(figure, panels, path):
    """Add what all panels share: a grid, and one legend below them."""
    lines = {}
    for axes in panels:
        axes.grid(alpha=0.3)
        lines |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    if lines:
        figure.legend(lines.values(), lines, loc="outside lower center", ncols=4)
    save_figure(figure, path)
