"""What a sweep found, as one table."""

import csv
import dataclasses
import io
import json
import math
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.table import Table

from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.evaluation import cut_off_note
from memorax.experiments.study.statistics import interquartile_mean, stratified_bootstrap_interval
from memorax.experiments.study.sweep_config import SweepConfig
from memorax.experiments.study.trial import Outcome, Trial, text


@dataclass(frozen=True)
class TrialRow:
    """What a trial came to. What is not known, such as the interval of a single seed, is ``None``.

    Attributes:
        trial: Its name.
        values: What it takes for each option that is searched.
        outcome: How it ended.
        interquartile_mean: Of what the seeds reached on fresh episodes after training.
        low: Lower end of its 95 % bootstrap interval over seeds.
        high: Its upper end.
        last_return: Mean return in the last part of training that it went through.
        seed_values: What each seed reached.
        num_ended: Episodes of the evaluation that ended by themselves, over all seeds.
        num_cut_off: Those that were cut off by ``evaluation_steps``.
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
    reached, low, high, seeds, num_ended, num_cut_off = None, None, None, [], None, None
    if ending.outcome == "finished":
        returns = trial.seed_returns
        reached, seeds = trial.score, returns.tolist()
        ends = stratified_bootstrap_interval(returns[:, None], interquartile_mean)
        low, high = (None if np.isnan(end) else float(end) for end in ends)
        num_ended, num_cut_off = trial.num_ended, trial.num_cut_off
    return TrialRow(
        trial=trial.name,
        values=trial.values,
        outcome=ending.outcome,
        interquartile_mean=reached,
        low=low,
        high=high,
        last_return=next((part for part in reversed(ending.reports) if part is not None), None),
        seed_values=seeds,
        num_ended=num_ended,
        num_cut_off=num_cut_off,
        why=ending.why,
    )


def command(config: TrainConfig[Any]) -> str:
    """Return the command line that repeats a run."""
    words = ["memorax", "train"]
    if config.algorithm_name != "ppo":
        words += ["--algorithm", config.algorithm_name]
    for part, default in ((config, TrainConfig()), (config.algorithm, type(config.algorithm)())):
        for field in dataclasses.fields(part):
            value = getattr(part, field.name)
            if field.name != "algorithm" and value != getattr(default, field.name):
                words += _option(field.name.replace("_", "-"), value)
    return shlex.join(words)


def _option(flag: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    values = value if isinstance(value, tuple) else (value,)
    return [f"--{flag}", *map(str, values)]


def to_json(config: SweepConfig[Any], rows: Sequence[TrialRow], best: str | None) -> str:
    """Write results down.

    Args:
        config: The sweep's configuration.
        rows: The table.
        best: The command line that repeats the best trial.
    """
    results = {
        "search": config.search,
        "method": config.method,
        "best": best,
        "rows": [asdict(row) for row in rows],
    }
    return json.dumps(results, indent=2, allow_nan=False) + "\n"


def to_csv(config: SweepConfig[Any], rows: Sequence[TrialRow]) -> str:
    """Write the table down, what is not known as an empty field."""
    file = io.StringIO()
    names = [field.name for field in dataclasses.fields(TrialRow) if field.name != "values"]
    flags = list(config.space)
    writer = csv.DictWriter(file, [names[0], *flags, *names[1:]], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        fields = asdict(row)
        values = fields.pop("values")
        seeds = " ".join(map(repr, row.seed_values))
        writer.writerow(fields | values | {"seed_values": seeds})
    return file.getvalue()


def header(config: SweepConfig[Any]) -> list[str]:
    """Return the titles of the table's columns."""
    return ["trial", *config.space, "IQM", "95 % interval", "while training", "ended"]


def formatted(config: SweepConfig[Any], row: TrialRow) -> list[str]:
    """Return a row's columns as text."""
    return [
        row.trial,
        *(text(row.values[flag]) for flag in config.space),
        "" if row.interquartile_mean is None else f"{row.interquartile_mean:.3f}",
        "" if row.low is None else f"[{row.low:.3f}, {row.high:.3f}]",
        "" if row.last_return is None else f"{row.last_return:.3f}",
        row.outcome,
    ]


def notes(config: SweepConfig[Any], rows: Sequence[TrialRow]) -> list[str]:
    """Say in sentences what the table's columns mean, and what to know about its rows."""
    train = config.train
    return [
        f"IQM: interquartile mean over {train.num_seeds} seed(s) of the mean return of "
        f"{train.evaluation_episodes} fresh episodes each, played after {train.total_steps:,} "
        "steps with the most likely actions. Interval: 95 % bootstrap over seeds.",
        "While training: mean return in the last tenth of training that the trial went through.",
        "The best of many trials is partly luck: repeat it with another --seed.",
        *(
            f"{row.trial}: "
            + cut_off_note(row.num_ended or 0, row.num_cut_off, train.evaluation_steps)
            for row in rows
            if row.num_cut_off
        ),
        *(f"{row.trial}: {row.why}" for row in rows if row.why),
    ]


def table(config: SweepConfig[Any], rows: Sequence[TrialRow]) -> Table:
    """Show all trials, the best first."""
    result = Table(caption="\n".join(notes(config, rows)), caption_justify="left")
    for column in header(config):
        result.add_column(column, justify="right", overflow="fold")
    for row in rows:
        result.add_row(*formatted(config, row))
    return result
