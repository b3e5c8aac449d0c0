"""Metrics as lines of JSON."""

import json
import math
from collections.abc import Sequence
from typing import Any

from memorax.experiments.loggers.line_file import LineFile
from memorax.experiments.loggers.logger import LoggedModel, Metrics, rows


class JsonLinesLogger:
    """``metrics.jsonl``: the rows of ``metrics.csv`` as an object each.

    JSON has finite numbers only: NaN and infinity become ``null``.

    Args:
        logged: The logged model.
    """

    def __init__(self, logged: LoggedModel):
        self._logged = logged
        self._file = LineFile(logged.folder.path / "metrics.jsonl", self._keep)

    def log(self, steps: Sequence[int], metrics: Metrics, seconds: float) -> None:
        """Add the lines of some updates."""
        self._file.append(
            "".join(
                json.dumps({name: _plain(value) for name, value in row.items()}, allow_nan=False)
                + "\n"
                for row in rows(self._logged.model, steps, metrics)
            )
        )

    def flush(self) -> None:
        """Return when the lines are safe on disk."""
        self._file.sync()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _keep(self, lines: list[str]) -> list[str]:
        """Drop the lines after the step that training resumes from."""
        parsed = [json.loads(line) for line in lines]
        return [
            line
            for line, row in zip(lines, parsed, strict=True)
            if row["model"] != self._logged.model or row["step"] <= self._logged.step
        ]


def _plain(value: Any) -> str | int | float | None:
    if isinstance(value, str | int):
        return value
    # By its own digits: those of a float32 as a float64 would be twice as many, and no truer.
    return float(str(value)) if math.isfinite(value) else None
