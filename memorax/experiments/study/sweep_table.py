"""The table of a sweep."""

import math
from collections.abc import Sequence
from typing import Any

from memorax.experiments.run.program import steps_to_train
from memorax.experiments.study.results import Row
from memorax.experiments.study.sweep_config import SweepConfig
from memorax.experiments.study.table import (
    StudyTable,
    evaluation_note,
    interval_text,
    number_text,
    truncation_notes,
)
from memorax.experiments.study.trial import text


def best_first(rows: Sequence[Row]) -> list[Row]:
    """Return rows in the table's order: finished trials, the best first, then the others."""

    def rank(row):
        reached = row.interquartile_mean, row.last_return
        return tuple(math.inf if value is None else -value for value in reached)

    return sorted(rows, key=rank)


def make_table(config: SweepConfig[Any], rows: Sequence[Row]) -> StudyTable:
    """Return all trials as a table, the best first."""
    header = ["trial", *config.space, "IQM", "95 % interval", "while training", "ended"]
    formatted = [
        [
            row.trial,
            *(text(row.values[flag]) for flag in config.space),
            number_text(row.interquartile_mean, ".3f"),
            interval_text(row.low, row.high),
            number_text(row.last_return, ".3f"),
            row.outcome,
        ]
        for row in rows
    ]
    return StudyTable(header, {"": formatted}, _notes(config, rows))


def _notes(config: SweepConfig[Any], rows: Sequence[Row]) -> list[str]:
    steps = f"{steps_to_train(config.train):,}"
    return [
        evaluation_note(config.train, steps, "bootstrap"),
        "While training: mean return in the last tenth of training that the trial reached.",
        "The best of many trials is partly luck: repeat it with another --seed.",
        *truncation_notes({row.trial: row for row in rows}, config.train),
        *(f"{row.trial}: {row.why}" for row in rows if row.why),
    ]
