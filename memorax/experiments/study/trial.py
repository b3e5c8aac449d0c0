"""One trial of a sweep."""

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from memorax.experiments.files.fields import from_fields, read_json, reading
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.folder import RunFolder, read_curves
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
    """A trial that was proposed.

    Attributes:
        number: Its number, from 0.
        values: Its value of each option that is searched.
        train: The settings that all trials share.
        folder: Its run's folder.
    """

    number: int
    values: dict[str, Any]
    train: TrainConfig[Any]
    folder: RunFolder

    @cached_property
    def config(self) -> TrainConfig[Any]:
        """Its run's configuration.

        Raises:
            ValueError: If the values do not fit each other.
        """
        return with_values(self.train, self.values)

    @property
    def name(self) -> str:
        """Its name."""
        return self.folder.path.name

    @property
    def described(self) -> str:
        """Its values, as text."""
        return ", ".join(f"{flag}={text(value)}" for flag, value in self.values.items())

    @property
    def ending(self) -> Ending | None:
        """Its ending, None if it has not ended."""
        path = self.folder.path / "trial.json"
        if not path.is_file():
            return None
        with reading(path, "ending of a trial"):
            return from_fields(Ending, read_json(path))

    def end(self, ending: Ending) -> None:
        """Store how it ended."""
        self.folder.write("trial.json", json.dumps(asdict(ending), indent=2) + "\n")

    @cached_property
    def result(self) -> RunResult:
        """The result of a trial that finished."""
        return read_result(self.folder)

    @property
    def score(self) -> float:
        """The interquartile mean over seeds, by which a trial that finished is judged."""
        return float(interquartile_mean(self.result.returns[:, None]))

    def reports(self, total_steps: int) -> tuple[float | None, ...]:
        """Return the mean return of each part of training that ``metrics.csv`` has the whole of."""
        curves = read_curves(self.folder)
        if not curves:
            return ()
        ((steps, returns),) = curves.values()
        ends = np.arange(1, RUNGS + 1) * total_steps / RUNGS
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
