"""The plot of a run's learning curve, and code that all plots share."""

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ParamSpec

import numpy as np

from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.evaluation import Evaluation
from memorax.experiments.run.folder import RunFolder, read_curves

COLUMNS = 2
"""Panels side by side."""

Parameters = ParamSpec("Parameters")


def literal_names(plot: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Draw names as they are, where Matplotlib would read mathematics between two dollar signs."""

    @functools.wraps(plot)
    def draw(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        # Not at the top, as in ``make_panels``.
        from matplotlib import rc_context  # noqa: PLC0415

        with rc_context({"text.parse_math": False}):
            plot(*args, **kwargs)

    return draw


@literal_names
def plot_learning_curve(folder: RunFolder, config: TrainConfig) -> None:
    """Draw each model's episode return against environment steps to ``learning_curve.png``.

    A line is the mean over seeds, its band reaches from the worst seed to the best. Updates in
    which no episode ended are left out.
    """
    figure, (axes,) = make_panels(1)
    for model, (steps, returns) in read_curves(folder).items():
        ended = ~np.isnan(returns).any(axis=0)
        if not ended.any():
            continue
        known, means = steps[ended], returns[:, ended]
        (line,) = axes.plot(known, means.mean(axis=0), label=model_label(model))
        axes.fill_between(
            known, means.min(axis=0), means.max(axis=0), alpha=0.2, color=line.get_color()
        )
    axes.set_xlabel("environment steps of each seed")
    axes.set_ylabel("mean episode return")
    seeds = count_seeds(config.num_seeds)
    axes.set_title(f"{config.algorithm_name} on {config.task}: mean, worst and best of {seeds}")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="best")
    save_figure(figure, folder.path / "learning_curve.png")


@literal_names
def plot_returns_by_parameter(
    path: Path,
    config: TrainConfig,
    parameter: str,
    values: Sequence[int | float | bool | str],
    evaluations: Sequence[Sequence[Evaluation]],
) -> None:
    """Draw how each model's return depends on a parameter of the task.

    A line is the mean over seeds, its band reaches from the worst seed to the best.

    Args:
        path: Where to write the picture.
        config: The run's configuration, with the value that it was trained with.
        parameter: The parameter.
        values: Its values.
        evaluations: For each of them, each model's evaluation.
    """
    figure, (axes,) = make_panels(1)
    numbers = [value for value in values if isinstance(value, int | float)]
    places = values if len(numbers) == len(values) else [str(value) for value in values]
    for of_values in zip(*evaluations, strict=True):
        model = of_values[0].model
        reached = np.array([evaluation.seed_returns for evaluation in of_values]).T
        (line,) = axes.plot(places, reached.mean(axis=0), "o-", label=model_label(model))
        low, high = reached.min(axis=0), reached.max(axis=0)
        axes.fill_between(places, low, high, alpha=0.2, color=line.get_color())
    trained = config.parsed_environment_parameters.get(parameter)
    if isinstance(trained, int | float) and len(numbers) == len(values):
        axes.axvline(trained, color="grey", linestyle=":", label="trained")
    axes.set_xlabel(parameter)
    axes.set_ylabel("mean episode return")
    seeds = count_seeds(config.num_seeds)
    axes.set_title(
        f"{config.algorithm_name} trained on {config.task}\nmean, worst and best of {seeds}"
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="best")
    save_figure(figure, path)


def count_seeds(*numbers: int) -> str:
    """Return how many seeds there are, for a title; ``numbers`` may differ from model to model."""
    fewest, most = min(numbers), max(numbers)
    many = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    return f"{many} seed{'' if most == 1 else 's'}"


def model_label(model: str) -> str:
    """Return how a legend names a model."""
    return f"{model} (no memory)" if model.rsplit(maxsplit=1)[-1] == "mlp" else model


def make_panels(count: int) -> tuple[Any, list[Any]]:
    """Return a figure and its axes, one for each panel."""
    # Not at the top: matplotlib takes a while, and only a run's end needs it.
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    columns = min(count, COLUMNS)
    rows = -(-count // columns)
    size = (7, 4) if count == 1 else (5.5 * columns, 3.6 * rows)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(rows, columns, index + 1) for index in range(count)]


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure to a path, whole or not at all."""
    partial = path.with_name(f".{path.stem}.partial.png")
    figure.savefig(partial, dpi=150)
    os.replace(partial, path)
