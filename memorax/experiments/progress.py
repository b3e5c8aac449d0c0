"""What a run shows while it trains."""

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


class TrainingProgress:
    """A live bar: steps per second over all seeds, time left, return with its spread over seeds.

    Args:
        console: Where to show it.
        model: The model's name.
        total_steps: Environment steps of each seed.
        done_steps: Those that a resumed run has behind it.
        num_seeds: How many seeds train at once.
    """

    def __init__(
        self, console: Console, model: str, total_steps: int, done_steps: int, num_seeds: int
    ):
        self._num_seeds = num_seeds
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[outcome]}"),
            console=console,
        )
        self._task = self._progress.add_task(
            model, total=total_steps, completed=done_steps, speed="compiling", outcome=""
        )

    def __enter__(self) -> "TrainingProgress":
        """Begin to show it."""
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Leave its last line standing."""
        self._progress.stop()

    def compiled(self) -> None:
        """Say that training itself begins."""
        done_steps = int(self._progress.tasks[0].completed)
        self._progress.reset(self._task, completed=done_steps, speed="", outcome="")

    def advance(self, steps: int, seconds: float, episode_returns: np.ndarray) -> None:
        """Show a finished chunk.

        Args:
            steps: Environment steps of each seed in the chunk.
            seconds: How long it took.
            episode_returns: Mean returns of shape (seeds, updates), NaN where no episode ended.
        """
        ended = np.isfinite(episode_returns)
        outcome = ""
        if ended.any(axis=1).all():
            by_seed = np.sum(np.where(ended, episode_returns, 0), axis=1) / ended.sum(axis=1)
            outcome = f"return {by_seed.mean():.2f}"
            if self._num_seeds > 1:
                outcome += f" (seeds {by_seed.min():.2f} to {by_seed.max():.2f})"
        self._progress.update(
            self._task,
            advance=steps,
            speed=f"{steps * self._num_seeds / seconds:,.0f} steps/s",
            outcome=outcome,
        )
