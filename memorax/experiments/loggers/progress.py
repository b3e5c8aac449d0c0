"""A progress bar in the terminal."""

from collections.abc import Sequence

import numpy as np
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from memorax.experiments.loggers.logger import LoggedModel, Metrics, means_over_updates


class ProgressBar:
    """A live bar: steps per second over all seeds, time left, return with its spread over seeds.

    Args:
        logged: The logged model.
    """

    def __init__(self, logged: LoggedModel):
        self._progress = progress_line(logged)
        self._progress.start()

    def log(self, steps: Sequence[int], metrics: Metrics, seconds: float) -> None:
        """Show that some updates have finished."""
        advance(self._progress, steps, metrics, seconds)

    def flush(self) -> None:
        """Do nothing: what is shown is not kept."""

    def close(self) -> None:
        """Leave the bar's last state standing."""
        self._progress.stop()


def progress_line(logged: LoggedModel) -> Progress:
    """Return a line with a model's progress, its speed and its return."""
    progress = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[speed]}", markup=False),
        TimeRemainingColumn(),
        TextColumn("{task.fields[outcome]}", markup=False),
        console=logged.console,
    )
    progress.add_task(
        logged.model,
        total=logged.total_steps,
        completed=logged.step,
        speed="starting",
        outcome="",
    )
    return progress


def advance(progress: Progress, steps: Sequence[int], metrics: Metrics, seconds: float) -> None:
    """Show in a ``progress_line`` that some updates have finished."""
    (task,) = progress.tasks
    returns = means_over_updates(metrics["episode_return"])
    outcome = ""
    if not np.isnan(returns).any():
        outcome = f"return {returns.mean():.2f}"
        if len(returns) > 1:
            outcome += f" (seeds {returns.min():.2f} to {returns.max():.2f})"
    played = (steps[-1] - task.completed) * len(returns)
    progress.update(
        task.id,
        completed=steps[-1],
        speed=f"{played / seconds:,.0f} steps/s",
        outcome=outcome,
    )
