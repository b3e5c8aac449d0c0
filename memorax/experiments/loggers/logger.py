"""The interface of loggers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from rich.console import Console

from memorax.experiments.files.folder import Folder

Metrics = Mapping[str, Float[np.ndarray, "seeds updates"]]
"""The values of each metric, by name; NaN where a seed has none."""


@dataclass(frozen=True)
class LoggedModel:
    """The arguments of a logger.

    Attributes:
        folder: The run's folder.
        model: The model that is trained.
        step: Where training starts or resumes; what was logged after it is dropped or not
            repeated, since resumed training gives the same values.
        total_steps: Environment steps of each seed when it will have finished.
        console: The terminal.
    """

    folder: Folder
    model: str
    step: int
    total_steps: int
    console: Console


@runtime_checkable
class Logger(Protocol):
    """A logger of the metrics of one model of a run. Its argument is a ``LoggedModel``."""

    def log(self, steps: Sequence[int], metrics: Metrics, seconds: float) -> None:
        """Log the metrics of some updates.

        Args:
            steps: Environment steps of a seed by the end of each update.
            metrics: The metrics.
            seconds: How long the updates took.
        """
        ...

    def flush(self) -> None:
        """Flush everything to disk, before the checkpoint that it belongs to."""
        ...

    def close(self) -> None:
        """Flush everything and release files, processes and the terminal."""
        ...


def rows(model: str, steps: Sequence[int], metrics: Metrics) -> Iterator[dict[str, Any]]:
    """Yield a row for each update and seed: the model, the seed, the step, and every metric."""
    num_seeds = len(next(iter(metrics.values())))
    for update, step in enumerate(steps):
        for seed in range(num_seeds):
            values = {name: array[seed, update] for name, array in metrics.items()}
            yield {"model": model, "seed": seed, "step": step} | values


def means_over_seeds(
    steps: Sequence[int], metrics: Metrics
) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield each update's step and the means of its metrics over the seeds that have them."""
    for update, step in enumerate(steps):
        values = {name: array[:, update] for name, array in metrics.items()}
        known = {name: array[~np.isnan(array)] for name, array in values.items()}
        yield step, {name: float(array.mean()) for name, array in known.items() if array.size}
