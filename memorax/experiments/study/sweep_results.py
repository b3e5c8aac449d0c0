"""The results of a sweep."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from memorax.experiments.run.program import steps_to_train
from memorax.experiments.study.sweep_config import SweepConfig
from memorax.experiments.study.table import (
    StudyTable,
    evaluation_note,
    interval_text,
    number_text,
    seed_statistics,
    truncation_notes,
)
from memorax.experiments.study.trial import Outcome, Trial, text


@dataclass(frozen=True)
class TrialRow:
    """The result of a trial. Unknown values, such as the interval of a single seed, are ``None``.

    Attributes:
        trial: Its name.
        values: Its value of each option that is searched.
        outcome: How it ended.
        interquartile_mean: Of the seeds' mean returns on fresh episodes after training.
        low: Lower end of its 95 % bootstrap interval over seeds.
        high: Its upper end.
        last_return: Mean return in the last tenth of training that it completed.
        seed_values: Each seed's mean return.
        num_ended: Episodes of the evaluation that ended by themselves, over all seeds.
        num_cut_off: Those that ``evaluation_steps`` truncated.
        why: Why it did not finish.
    """

    trial: str
    values: dict[str, Any]
    outcome: Outcome
    interquartile_mean: float | None
    low: float | None
    high: float | None
    last_return: float | None
    seed_values: list[float]
    num_ended: int | None
    num_cut_off: int | None
    why: str


def make_rows(trials: Sequence[Trial]) -> list[TrialRow]:
    """Return the table's rows: finished trials, the best first, then the others."""
    rows = [_row(trial) for trial in trials]

    def rank(row):
        reached = row.interquartile_mean, row.last_return
        return tuple(math.inf if value is None else -value for value in reached)

    return sorted(rows, key=rank)


def _row(trial: Trial) -> TrialRow:
    ending = trial.ending
    if ending is None:
        raise ValueError(f"{trial.name} has not ended")
    finished = ending.outcome == "finished"
    if finished:
        statistics = seed_statistics(trial.result.returns[:, None])
    else:
        unknown = dict.fromkeys(("interquartile_mean", "low", "high"))
        statistics = {**unknown, "seed_values": []}
    return TrialRow(
        trial=trial.name,
        values=trial.values,
        outcome=ending.outcome,
        **statistics,
        last_return=next((part for part in reversed(ending.reports) if part is not None), None),
        num_ended=trial.result.num_ended if finished else None,
        num_cut_off=trial.result.num_cut_off if finished else None,
        why=ending.why,
    )


def make_table(config: SweepConfig[Any], rows: Sequence[TrialRow]) -> StudyTable:
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


def _notes(config: SweepConfig[Any], rows: Sequence[TrialRow]) -> list[str]:
    steps = f"{steps_to_train(config.train):,}"
    return [
        evaluation_note(config.train, steps, "bootstrap"),
        "While training: mean return in the last tenth of training that the trial reached.",
        "The best of many trials is partly luck: repeat it with another --seed.",
        *truncation_notes({row.trial: row for row in rows}, config.train),
        *(f"{row.trial}: {row.why}" for row in rows if row.why),
    ]
