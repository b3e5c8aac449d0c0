"""Writes metrics, times and checkpoints of a model that trains."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import PyTree
from rich.console import Console

from memorax.algorithms.progress import means_over_updates
from memorax.experiments.files.write_errors import WriteErrors
from memorax.experiments.loggers.combined import CombinedLogger
from memorax.experiments.loggers.logger import LoggedModel
from memorax.experiments.run.checkpoints import Checkpoints
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.failures import DivergedError
from memorax.experiments.run.folder import RunFolder, Stopwatch
from memorax.experiments.run.schedules import fit_schedules


@dataclass(frozen=True)
class ModelRun:
    """One model that a run trains.

    Attributes:
        folder: The run's folder.
        config: The run's configuration.
        model: The model's name, which is its torso's.
        title: Its name in messages.
    """

    folder: RunFolder
    config: TrainConfig[Any]
    model: str
    title: str


class Recorder:
    """Logs metrics and saves checkpoints of one model of a run.

    Args:
        run: What is recorded.
        checkpoints: Its checkpoints.
        step: The step that training starts or resumes from.
        total_steps: Environment steps of each seed when it will have finished.
        console: The terminal.
        writes: Handles write errors.
        without: Loggers that are left out.
    """

    def __init__(
        self,
        run: ModelRun,
        checkpoints: Checkpoints,
        step: int,
        total_steps: int,
        console: Console,
        writes: WriteErrors,
        without: Collection[str] = (),
    ):
        self.run, self.config = run, run.config
        self.step, self.total_steps = step, total_steps
        self._checkpoints, self._writes = checkpoints, writes
        self._stopwatch = Stopwatch(run.folder, run.model)
        self._return = math.nan
        self._logger = CombinedLogger(
            [name for name in self.config.loggers if name not in without],
            LoggedModel(run.folder, run.model, step, total_steps, console),
            writes,
        )

    def log(self, steps: range, metrics: Mapping[str, Any], seconds: float) -> None:
        """Log a chunk of training.

        Args:
            steps: Environment steps of a seed by the end of each update.
            metrics: The metrics, (seeds, updates) each.
            seconds: How long it took.

        Raises:
            DivergedError: If a loss became non-finite.
            WriteFailedError: If something cannot be written, and that is to stop the run.
        """
        self._stopwatch.add(self.config.num_seeds * (steps[-1] - self.step), seconds)
        self._logger.log(steps, metrics, seconds)
        check_losses(self.config, self.run.model, steps, metrics)
        self.step = steps[-1]
        self._return = float(means_over_updates(np.asarray(metrics["episode_return"])).mean())
        with self._writes.caught("checkpoint"):
            self._checkpoints.check()

    def save(self, state: PyTree) -> None:
        """Save a checkpoint, when the metrics before it are safe on disk."""
        self._logger.flush()
        with self._writes.caught("timing"):
            self._stopwatch.flush()
        with self._writes.caught("checkpoint"):
            # A failed earlier save must not prevent this one.
            self._checkpoints.wait()
        with self._writes.caught("checkpoint"):
            self._checkpoints.save(self.step, state, self._return)

    def close(self) -> None:
        """Close the loggers."""
        self._logger.close()


def check_losses(
    config: TrainConfig[Any], model: str, steps: range, metrics: Mapping[str, Any]
) -> None:
    """Stop at the first loss that is not finite, before such a state is saved.

    Raises:
        DivergedError: If there is one among the metrics, of shape (seeds, updates).
    """
    # Before a replay is learned from there is no loss.
    first = getattr(fit_schedules(config)[0], "learning_starts", 0)
    for index, step in enumerate(steps):
        for name, values in metrics.items():
            seeds = np.flatnonzero(~np.isfinite(np.asarray(values)[:, index]))
            if "loss" in name and step > first and seeds.size:
                raise DivergedError(
                    f"{model}: {name} of seed(s) {', '.join(map(str, seeds))} is not finite at "
                    f"step {step:,}"
                )
