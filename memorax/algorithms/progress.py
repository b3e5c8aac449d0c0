"""A progress bar in the terminal."""

import time
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from memorax.algorithms.reporting import TrainingProgress

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


class ProgressBar:
    """A callback of ``agent.train`` that shows how far it is: steps per second, time left, return.

    While the program is compiled it says so. Under ``jax.vmap`` over seeds it shows the mean return
    and its range over them.

    Args:
        description: What stands before the bar.

    Examples:
        >>> head = heads.ActorCritic(heads.Categorical(2), heads.VNetwork())
        >>> config = PPOConfig(num_envs=4, num_steps=8)
        >>> agent = PPO(config, env, env_params, network(head), None, optax.adam(1e-3))
        >>> state, _ = agent.train(key, agent.init(key), 64, ProgressBar())  # doctest: +SKIP
        training ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 100% 7,805 steps/s 0:00:00 return 7.20
    """

    def __init__(self, description: str = "training"):
        self._description = description
        self._progress: Progress | None = None

    def __enter__(self) -> "ProgressBar":
        """Show the bar; ``agent.train`` does so before it compiles."""
        self._progress = progress_line(self._description, None)
        self._progress.start()
        self._since = time.perf_counter()
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the bar's last state standing."""
        if self._progress is not None:
            self._progress.stop()
        self._progress = None

    def __call__(self, progress: TrainingProgress) -> None:
        """Show how far training is."""
        if self._progress is None:
            self.__enter__()
        assert self._progress is not None
        (task,) = self._progress.tasks
        if task.total is None:
            self._progress.update(task.id, total=progress.num_steps)
        now = time.perf_counter()
        returns = np.atleast_2d(progress.metrics["episode_return"])
        advance(self._progress, progress.step, returns, now - self._since)
        self._since = now
        if progress.step == progress.num_steps:
            self.__exit__()


def progress_line(
    description: str,
    num_steps: int | None,
    step: int = 0,
    console: "Console | None" = None,
) -> "Progress":
    """Return a line that shows how far training is, how fast it goes, and its return.

    Args:
        description: What stands before the bar.
        num_steps: Environment steps of each seed, None if that is not known yet.
        step: Those made before.
        console: The terminal; None: standard output.
    """
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        Progress,
        ProgressColumn,
        Task,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text  # noqa: PLC0415

    class Speed(ProgressColumn):
        """The speed, or for how long the program has been compiled."""

        def render(self, task: Task) -> Text:
            speed = task.fields["speed"]
            return Text(f"compiling, {task.elapsed or 0:.0f} s" if speed is None else speed)

    progress = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        Speed(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[outcome]}", markup=False),
        console=console,
    )
    progress.add_task(description, total=num_steps, completed=step, speed=None, outcome="")
    return progress


def advance(
    progress: "Progress", step: int, returns: Float[np.ndarray, "seeds updates"], seconds: float
) -> None:
    """Show in a ``progress_line`` that some updates have finished.

    Args:
        progress: The line.
        step: Environment steps of each seed.
        returns: The mean return of episodes that ended in each update, NaN where none did.
        seconds: How long the updates took.
    """
    (task,) = progress.tasks
    means = means_over_updates(returns)
    outcome = task.fields["outcome"]
    if not np.isnan(means).any():
        outcome = f"return {means.mean():.2f}"
        if len(means) > 1:
            outcome += f" (seeds {means.min():.2f} to {means.max():.2f})"
    played = (step - task.completed) * len(returns)
    progress.update(
        task.id, completed=step, speed=f"{played / seconds:,.0f} steps/s", outcome=outcome
    )


def means_over_updates(values: Float[np.ndarray, "seeds updates"]) -> Float[np.ndarray, " seeds"]:
    """Return each seed's mean over the updates that have a value, NaN for a seed without any."""
    known = ~np.isnan(values)
    sums = np.where(known, values, 0).sum(axis=1)
    counts = known.sum(axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
