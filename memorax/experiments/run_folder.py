"""The folder that a run leaves."""

import contextlib
import csv
import itertools
import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from jaxtyping import Float, Int

from memorax.experiments.config import TrainConfig, from_json, to_json
from memorax.experiments.fields import read_json, reading
from memorax.experiments.trust import check_files

Curves = tuple[Int[np.ndarray, " updates"], Float[np.ndarray, "seeds updates"]]

AnyFolder = TypeVar("AnyFolder", bound="Folder")


class FolderExistsError(ValueError):
    """A folder that was to be made exists, and is not overwritten; the message names it."""


class Folder:
    """Where something is kept, with the ``config.json`` that it is made by.

    Files are written beside their place and moved there, so that none is ever half written.

    Args:
        path: The folder.

    Attributes:
        kind: What such a folder is called where one is refused.
        field: A field of its ``config.json`` that no other kind's has.
        writes: Whether this process writes there; of several that train together, one does.
    """

    kind: ClassVar[str]
    field: ClassVar[str]

    def __init__(self, path: Path):
        self.path = path
        self.writes = True

    @classmethod
    def make(cls: type[AnyFolder], path: Path, config: str) -> AnyFolder:
        """Make a new folder.

        Args:
            path: Where.
            config: What ``config.json`` says.

        Raises:
            ValueError: If the path exists, since nothing is ever overwritten, or cannot be written.
        """
        if any("\ud800" <= character <= "\udfff" for character in str(path)):
            # Python has bytes that are no text in this form, which Orbax cannot take.
            raise ValueError(f"{cls.kind} must be a path in UTF-8, got {str(path)!r}")
        try:
            # The system makes it for one of those who try at once, and for no other.
            path.mkdir(parents=True)
        except OSError as error:
            if os.path.lexists(path):
                raise FolderExistsError(
                    f"{cls.kind} {path} exists and is not overwritten: choose another, or go on "
                    "with it by --resume"
                ) from None
            raise ValueError(f"{cls.kind} {path} cannot be made: {error}") from error
        folder = cls(path)
        try:
            folder.write("config.json", config)
        except OSError as error:
            path.rmdir()
            raise ValueError(f"{cls.kind} {path} cannot be written: {error}") from error
        return folder

    @classmethod
    def make_named_by_time(
        cls: type[AnyFolder], parent: str, config: str, prefix: str = ""
    ) -> AnyFolder:
        """Make a new folder where none was given, ``PARENT/PREFIXTIME``.

        Of several begun in the same second, the later ones have ``-2``, ``-3``, ... after the time.

        Args:
            parent: The folder to make it in.
            config: What ``config.json`` says.
            prefix: What its name begins with.

        Raises:
            ValueError: If it cannot be written.
        """
        name = f"{prefix}{datetime.now():%Y%m%d-%H%M%S}"
        for number in itertools.count(1):
            with contextlib.suppress(FolderExistsError):
                return cls.make(Path(parent, name if number == 1 else f"{name}-{number}"), config)
        raise AssertionError("unreachable")

    @classmethod
    def open(cls: type[AnyFolder], path: Path) -> AnyFolder:
        """Open a folder that is there.

        Raises:
            ValueError: If there is none, or something in it is neither file nor folder or leads out
                of it.
        """
        if not (path / "config.json").is_file():
            raise ValueError(f"{path} is not a {cls.kind}: it has no config.json")
        check_files(path)
        if not cls.is_at(path):
            raise ValueError(f"{path} is not a {cls.kind}: its config.json has no {cls.field}")
        return cls(path)

    @classmethod
    def is_at(cls, path: Path) -> bool:
        """Return whether a folder is of this kind, by its ``config.json``.

        Raises:
            UnreadableError: If that is none.
        """
        config = path / "config.json"
        if not config.is_file():
            return False
        with reading(config, "configuration"):
            return cls.field in read_json(config)

    def write(self, name: str, text: str) -> None:
        """Write a text file at once, if it is for this process to write."""
        if not self.writes:
            return
        partial = self.path / f".{name}.partial"
        try:
            partial.write_text(text, encoding="utf-8")
            os.replace(partial, self.path / name)
        except OSError:
            partial.unlink(missing_ok=True)
            raise


class RunFolder(Folder):
    """Where a run keeps its configuration, metrics and checkpoints.

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
    """How long one model of a run has trained, compilation left out, in ``timing.json``.

    Args:
        folder: The run's folder, with what a model that goes on has behind it.
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
        """Write the time down."""
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


def whole_lines(path: Path) -> list[str]:
    """Return the lines of a file with their ends, none if it does not exist.

    A last one without an end was torn: whoever wrote it was killed.
    """
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [line for line in file if line.endswith("\n")]


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
            by_step[int(row["seed"])] = float(row["episode_return"])
        curves = {}
        for model, by_step in returns.items():
            steps = sorted(by_step)
            by_update = [[by_step[step][seed] for seed in sorted(by_step[step])] for step in steps]
            curves[model] = np.array(steps), np.array(by_update).T
        return curves
