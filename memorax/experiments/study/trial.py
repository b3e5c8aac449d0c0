"""One trial of a study: a run of its own."""

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from memorax.experiments.files.fields import from_fields, read_json, reading
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.folder import RunFolder, read_curves
from memorax.experiments.run.program import steps_to_train
from memorax.experiments.run.recorder import ModelRun
from memorax.experiments.study.run_result import RunResult, read_result
from memorax.experiments.study.search_space import with_values
from memorax.experiments.study.statistics import interquartile_mean

RUNGS = 10
"""Parts that training is cut into; a trial may be stopped after each."""

Outcome = Literal["finished", "pruned", "diverged", "refused"]


@dataclass(frozen=True)
class Ending:
    """How a trial ended.

    Attributes:
        outcome: Whether it finished, was pruned, diverged, or could not begin.
        why: Why it did not finish.
        reports: The mean return in each part of training that it went through, over seeds and the
            updates in which episodes ended; None where none did.
    """

    outcome: Outcome
    why: str = ""
    reports: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class Trial:
    """A trial of a comparison or a sweep.

    Attributes:
        number: Its number, from 0.
        values: Its value of each option that is searched.
        train: The settings before these values.
        folder: Its run's folder.
        task: Its task, as the study's table names it.
        label: Its model, as the table names it; empty: its torso.
    """

    number: int
    values: dict[str, Any]
    train: TrainConfig[Any]
    folder: RunFolder
    task: str = ""
    label: str = ""

    @cached_property
    def config(self) -> TrainConfig[Any]:
        """Its run's configuration.

        Raises:
            ValueError: If the values do not fit each other.
        """
        return with_values(self.train, self.values)

    @property
    def model(self) -> str:
        """The name of the model that its run trains."""
        return self.config.torso

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.folder.path.name

    @property
    def title(self) -> str:
        """Its name in messages."""
        return f"{self.label} on {self.task}" if self.label else self.name

    @property
    def run(self) -> ModelRun:
        """What its run trains."""
        return ModelRun(self.folder, self.config, self.model, self.title)

    @property
    def described(self) -> str:
        """Its name and its values, as text."""
        values = ", ".join(f"{flag}={text(value)}" for flag, value in self.values.items())
        return f"{self.title} with {values}" if values else self.title

    @property
    def ending(self) -> Ending | None:
        """Its ending, None if it has not ended or its evaluation has been removed."""
        path = self.folder.path
        evaluated = (path / "evaluation.json").is_file()
        if (path / "trial.json").is_file():
            with reading(path / "trial.json", "ending of a trial"):
                ending = from_fields(Ending, read_json(path / "trial.json"))
            return ending if evaluated or ending.outcome != "finished" else None
        # Comparisons of earlier versions have no endings.
        if (path / "diverged.txt").is_file():
            return Ending("diverged", (path / "diverged.txt").read_text(encoding="utf-8").strip())
        return Ending("finished", reports=self.reports()) if evaluated else None

    def end(self, ending: Ending) -> None:
        """Store how it ended, which it may have before its run began."""
        self.folder.path.mkdir(parents=True, exist_ok=True)
        self.folder.write("trial.json", json.dumps(asdict(ending), indent=2) + "\n")

    @cached_property
    def result(self) -> RunResult:
        """The result of a trial that finished."""
        return read_result(self.folder)

    @property
    def score(self) -> float:
        """The interquartile mean over seeds, by which a trial that finished is judged."""
        return float(interquartile_mean(self.result.returns[:, None]))

    def reports(self) -> tuple[float | None, ...]:
        """Return the mean return of each part of training that ``metrics.csv`` has the whole of."""
        curves = read_curves(self.folder)
        if not curves:
            return ()
        ((steps, returns),) = curves.values()
        ends = np.arange(1, RUNGS + 1) * steps_to_train(self.config) / RUNGS
        means = []
        for start, end in zip([0.0, *ends], ends, strict=False):
            if steps[-1] < end:
                break
            part = returns[:, (steps > start) & (steps <= end)]
            known = part[~np.isnan(part)]
            means.append(float(known.mean()) if known.size else None)
        return tuple(means)


def text(value: Any) -> str:
    """Return an option's value as a table shows it."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple):
        return " ".join(map(text, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
