"""The folder of a run."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from memorax.experiments.files.fields import read_json, reading
from memorax.experiments.files.folder import Folder, whole_lines
from memorax.experiments.run.config import TrainConfig, from_json, to_json

Curves = tuple[Int[np.ndarray, " updates"], Float[np.ndarray, "seeds updates"]]


class RunFolder(Folder):
    """The folder of a run's configuration, metrics and checkpoints.

    ``config.json``, ``metrics.csv`` (a row for each model, seed and update) and what other loggers
    leave, ``timing.json``, ``checkpoints/MODEL/STEP/``, ``learning_curve.png``,
    ``evaluation.json``.

    Args:
        path: The folder.
    """

    kind = "run folder"
    field = "environment"

    @classmethod
    def create(cls, path: Path | None, config: TrainConfig) -> "RunFolder":
        """Make a new folder; without a path, ``runs/TASK-TORSO-TIME``.

        Raises:
            ValueError: If the path exists, since a run is never overwritten, or cannot be written.
        """
        if path is not None:
            return cls.make(path, to_json(config))
        task = config.environment.rpartition("::")[2]
        return cls.make_named_by_time("runs", to_json(config), f"{task}-{config.torso}-")

    def config(self) -> TrainConfig:
        """Return the run's configuration."""
        return from_json(self.path / "config.json")


class Stopwatch:
    """Measures the training time of one model of a run, without compilation, in ``timing.json``.

    Args:
        folder: The run's folder, with the times so far of a model that is resumed.
        model: The model's name.
    """

    def __init__(self, folder: RunFolder, model: str):
        self._folder = folder
        self._model = model
        timing = read_timing(folder).get(model, {"steps": 0, "seconds": 0.0})
        self._steps, self._seconds = timing["steps"], timing["seconds"]

    def add(self, steps: int, seconds: float) -> None:
        """Count environment steps, over all seeds, and the time that they took."""
        self._steps += steps
        self._seconds += seconds

    def flush(self) -> None:
        """Write ``timing.json``."""
        timing = {"steps": self._steps, "seconds": self._seconds}
        timings = read_timing(self._folder) | {self._model: timing}
        self._folder.write("timing.json", json.dumps(timings, indent=2) + "\n")


def read_timing(folder: RunFolder) -> dict[str, Any]:
    """Return the steps of all seeds and their seconds, by model; none before the first."""
    path = folder.path / "timing.json"
    if not path.is_file():
        return {}
    with reading(path, "times of models"):
        return {
            model: {"steps": int(timing["steps"]), "seconds": float(timing["seconds"])}
            for model, timing in read_json(path).items()
        }


def read_metrics(folder: RunFolder) -> list[dict[str, str]]:
    """Return the rows of ``metrics.csv``, none if there is no such file yet."""
    return list(csv.DictReader(whole_lines(folder.path / "metrics.csv")))


def number_in(cell: str) -> float:
    """Return the number in a cell of ``metrics.csv``, NaN if it is empty."""
    return float(cell) if cell else math.nan


def read_curves(folder: RunFolder) -> dict[str, Curves]:
    """Return how each model of a run learned.

    Returns:
        By model, environment steps of a seed by the end of each update, (updates,), and each
        seed's mean return of the episodes that ended in it, (seeds, updates), NaN if none did.
    """
    returns: dict[str, dict[int, dict[int, float]]] = {}
    with reading(folder.path / "metrics.csv", "returns of a run"):
        for row in read_metrics(folder):
            by_step = returns.setdefault(row["model"], {}).setdefault(int(row["step"]), {})
            by_step[int(row["seed"])] = number_in(row["episode_return"])
        curves = {}
        for model, by_step in returns.items():
            steps = sorted(by_step)
            by_update = [[by_step[step][seed] for seed in sorted(by_step[step])] for step in steps]
            curves[model] = np.array(steps), np.array(by_update).T
        return curves
