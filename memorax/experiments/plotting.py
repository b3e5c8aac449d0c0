"""Pictures of a run."""

import os
from collections import defaultdict

import numpy as np

from memorax.experiments.config import TrainConfig
from memorax.experiments.run_folder import RunFolder, read_metrics


def plot_learning_curve(folder: RunFolder, config: TrainConfig) -> None:
    """Draw each model's episode return against environment steps to ``learning_curve.png``.

    A line is the mean over seeds, its band reaches from the worst seed to the best. Updates in
    which no episode ended are left out.
    """
    # Not at the top: matplotlib takes a while, and only a run's end needs it.
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    curves = defaultdict(lambda: defaultdict(list))
    for row in read_metrics(folder):
        curves[row["model"]][int(row["step"])].append(float(row["episode_return"]))
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for model, by_step in curves.items():
        ended = {step: values for step, values in by_step.items() if not np.isnan(values).any()}
        steps = list(ended)
        returns = np.array(list(ended.values()))
        if not steps:
            continue
        label = f"{model} (no memory)" if model == "mlp" else model
        (line,) = axes.plot(steps, returns.mean(axis=1), label=label)
        axes.fill_between(
            steps, returns.min(axis=1), returns.max(axis=1), alpha=0.2, color=line.get_color()
        )
    axes.set_xlabel("environment steps of each seed")
    axes.set_ylabel("mean episode return")
    axes.set_title(f"{config.algorithm_name} on {config.task}")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="best")
    partial = folder.path / ".learning_curve.partial.png"
    figure.savefig(partial, dpi=150)
    os.replace(partial, folder.path / "learning_curve.png")
