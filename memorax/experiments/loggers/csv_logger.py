"""Metrics as a table."""

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from memorax.experiments.loggers.line_file import LineFile
from memorax.experiments.loggers.logger import LoggedModel, Metrics, rows


class CsvLogger:
    """``metrics.csv``: a row for each model, seed and update.

    Args:
        logged: The logged model.
    """

    def __init__(self, logged: LoggedModel):
        self._logged = logged
        self._header: list[str] = []
        self._file = LineFile(logged.folder.path / "metrics.csv", self._keep)

    def log(self, steps: Sequence[int], metrics: Metrics, seconds: float) -> None:
        """Add the rows of some updates."""
        text = io.StringIO()
        columns = ["model", "seed", "step", *metrics]
        writer = csv.DictWriter(text, fieldnames=self._header or columns)
        if not self._header:
            self._header = columns
            writer.writeheader()
        for row in rows(self._logged.model, steps, metrics):
            # As other programs that read tables expect what there is not, such as a return where no
            # episode ended: an empty cell.
            writer.writerow(
                {name: "" if _is_missing(value) else value for name, value in row.items()}
            )
        self._file.append(text.getvalue())

    def flush(self) -> None:
        """Return when the rows are safe on disk."""
        self._file.sync()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _keep(self, lines: list[str]) -> list[str]:
        """Drop the rows after the step that training resumes from."""
        table = csv.DictReader(lines)
        self._header = list(table.fieldnames or ())
        return lines[:1] + [
            line
            for line, row in zip(lines[1:], table, strict=True)
            if row["model"] != self._logged.model or int(row["step"]) <= self._logged.step
        ]


def _is_missing(value: Any) -> bool:
    """Return whether a cell has no value."""
    return not isinstance(value, str) and math.isnan(value)
