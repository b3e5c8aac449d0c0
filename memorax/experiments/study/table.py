"""The table of a study: in the terminal, as Markdown, HTML and CSV."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from memorax.experiments.run.config import Settings
from memorax.experiments.run.evaluation import truncation_note
from memorax.experiments.run.terminal_table import FittedTable
from memorax.experiments.study import page
from memorax.experiments.study.results import Row


@dataclass(frozen=True)
class StudyTable:
    """A table of a study.

    Attributes:
        header: The titles of its columns.
        groups: The rows by heading; an empty heading is not shown.
        notes: Explanations of columns and rows, in sentences.
    """

    header: Sequence[str]
    groups: Mapping[str, Sequence[Sequence[str]]]
    notes: Sequence[str]

    def rich(self) -> FittedTable:
        """Return it for the terminal."""
        return FittedTable(self.header, self.groups, notes=self.notes)

    def markdown(self) -> str:
        """Return it as a table for each heading, and its notes as a list."""
        lines = []
        for heading, rows in self.groups.items():
            lines += [f"**{heading}**", ""] if heading else []
            rules = ["---"] * len(self.header)
            lines += [f"| {' | '.join(row)} |" for row in (self.header, rules, *rows)]
            lines.append("")
        return "\n".join([*lines, *(f"- {note}" for note in self.notes)]) + "\n"

    def html(self) -> str:
        """Return it as a part of a page."""
        bodies = (page.rows(rows, heading) for heading, rows in self.groups.items() if rows)
        return "\n".join([page.table(self.header, bodies), page.points(self.notes)])


def csv_text(rows: Sequence[Row]) -> str:
    """Return rows as CSV: a column for each field that some row has; ``None`` is an empty field."""
    lines = []
    for row in rows:
        fields = asdict(row) | {"seed_values": " ".join(map(repr, row.seed_values))}
        del fields["values"]
        # A column for each option of a sweep.
        lines.append({"trial": row.trial} | row.values | fields)
    first = lines[0] if lines else {}
    names = [name for name in first if any(line[name] not in (None, "") for line in lines)]
    file = io.StringIO()
    writer = csv.DictWriter(file, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return file.getvalue()


def evaluation_note(config: Settings, steps: str, interval: str) -> str:
    """Return the explanation of the columns IQM and interval.

    Args:
        config: How the runs were trained and evaluated.
        steps: The environment steps that they trained.
        interval: How the interval was found.
    """
    return (
        f"IQM: interquartile mean over {config.num_seeds} seed(s) of the mean return of "
        f"{config.evaluation_episodes} fresh episodes each, played after {steps} steps with the "
        f"most likely actions. Interval: 95 % {interval} over seeds."
    )


def truncation_notes(rows: Mapping[str, Row], config: Settings) -> list[str]:
    """Return a note for each row, by its name, with episodes that ``evaluation_steps`` ended."""
    return [
        f"{name}: {truncation_note(row.num_ended or 0, row.num_cut_off, config.evaluation_steps)}"
        for name, row in rows.items()
        if row.num_cut_off
    ]


def number_text(value: float | int | None, style: str) -> str:
    """Return a number as a table shows it, nothing if it is not known."""
    return "" if value is None or math.isnan(value) else format(value, style)


def interval_text(low: float | None, high: float | None) -> str:
    """Return an interval as a table shows it, nothing if there is none."""
    return "" if low is None else f"[{low:.3f}, {high:.3f}]"
