"""The table of a comparison."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from memorax.experiments.run.best_return import EPISODES
from memorax.experiments.run.program import steps_to_train
from memorax.experiments.study.comparison_config import CompareConfig
from memorax.experiments.study.results import Row, statistics
from memorax.experiments.study.run_result import RunResult
from memorax.experiments.study.table import (
    StudyTable,
    evaluation_note,
    interval_text,
    number_text,
    truncation_notes,
)

ALL_TASKS = "all tasks"

Results = Mapping[str, Mapping[str, RunResult]]
"""By task and model."""


def rows_over_tasks(config: CompareConfig, results: Results) -> list[Row]:
    """Return a row for each model with its scores over all tasks, if there are any."""
    scores, trained = scores_over_tasks(config, results)
    reference = config.models[0]
    return [
        Row(
            task=ALL_TASKS,
            model=model,
            **statistics(
                scores[model],
                trained[model],
                None if model == reference else scores.get(reference),
            ),
        )
        for model in scores
    ]


def scores_over_tasks(
    config: CompareConfig, results: Results
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return each model's scores, after training and over all of it, (runs, tasks) each.

    A score is ``(return - low) / (high - low)`` with the task's pair of ``return_ranges``. Only
    models that finished every task have scores; without ranges, or with a single task, none has.
    """
    if config.return_ranges is None or len(config.environments) == 1:
        return {}, {}
    finished = [
        model
        for model in config.models
        if all(model in results.get(task, {}) for task in config.environments)
    ]
    low, high = np.array(config.return_ranges).T

    def scores(model, returns_of):
        by_task = [returns_of(results[task][model]) for task in config.environments]
        return (np.stack(by_task, axis=1) - low) / (high - low)

    return (
        {model: scores(model, lambda result: result.returns) for model in finished},
        {model: scores(model, lambda result: result.curves.mean(axis=1)) for model in finished},
    )


def make_table(
    config: CompareConfig, rows: Sequence[Row], diverged: Mapping[str, str]
) -> StudyTable:
    """Return all results as a table, grouped by task.

    Args:
        config: The comparison's configuration.
        rows: The rows, task by task.
        diverged: Runs that have no result, and why.
    """
    efficiencies = _efficiencies(config, rows)
    shown = any(efficiencies)
    header = [
        "model",
        "IQM",
        "95 % interval",
        f"better than {config.models[0]}",
        "sampled actions",
        "best in training",
        *(["sample efficiency"] if shown else []),
        "parameters",
        "carry bytes",
        "steps/s",
    ]
    groups: dict[str, list[list[str]]] = {}
    for row, efficiency in zip(rows, efficiencies, strict=True):
        cells = _formatted(row, efficiency if shown else None)
        groups.setdefault(row.task, []).append(cells)
    return StudyTable(header, groups, _notes(config, rows, diverged))


def _formatted(row: Row, efficiency: str | None) -> list[str]:
    return [
        row.model,
        number_text(row.interquartile_mean, ".3f"),
        interval_text(row.low, row.high),
        number_text(row.probability_of_improvement, ".0%"),
        number_text(row.sampled_return, ".3f"),
        number_text(row.best_return, ".3f"),
        *([] if efficiency is None else [efficiency]),
        number_text(row.num_parameters, ","),
        number_text(row.carry_bytes, ","),
        number_text(row.steps_per_second, ",.0f"),
    ]


def _efficiencies(config: CompareConfig, rows: Sequence[Row]) -> list[str]:
    """Return each row's sample efficiency on a scale from 0 to 1, nothing where it has no scale."""
    reached = {
        (row.task, row.model): row.interquartile_mean
        for row in rows
        if row.interquartile_mean is not None
    }
    best = {task: max(reached[key] for key in reached if key[0] == task) for task, _ in reached}
    texts = []
    for row in rows:
        twin = f"{row.model.rpartition(' ')[0]} mlp".strip()
        if config.return_ranges is None:
            # It is the scale's own end.
            low = math.nan if row.model == twin else reached.get((row.task, twin), math.nan)
            high = best.get(row.task, math.nan)
        elif row.task == ALL_TASKS:
            low, high = 0.0, 1.0
        else:
            low, high = config.return_ranges[config.environments.index(row.task)]
        value = math.nan if row.sample_efficiency is None else row.sample_efficiency
        texts.append(number_text((value - low) / (high - low) if low < high else None, ".3f"))
    return texts


def _steps(config: CompareConfig) -> str:
    """Return the steps that the runs train, which differ by algorithm in their last update."""
    steps = sorted({steps_to_train(run.config) for run in config.runs})
    return " or ".join(f"{number:,}" for number in steps)


def _notes(config: CompareConfig, rows: Sequence[Row], diverged: Mapping[str, str]) -> list[str]:
    sentences = [
        evaluation_note(config, _steps(config), "stratified bootstrap"),
        f"Better than {config.models[0]}: the probability that a seed of the model returns more "
        f"than one of {config.models[0]}, ties counting half.",
        "Sampled actions: the IQM on the same episodes with actions drawn as at the end of "
        "training.",
        "Best in training: the greatest mean return of the episodes of an update, of at least "
        f"{EPISODES}, mean over seeds, as POPGym's tables report it (MMER).",
        "Parameters and carry bytes are those of all networks, carry bytes of one environment; "
        "steps per second are those of all seeds, without compilation.",
    ]
    if any(_efficiencies(config, rows)):
        scale = (
            "the memoryless mlp after training and 1 for the best model after training."
            if config.return_ranges is None
            else "the low end of the task's return range and 1 for the high one."
        )
        sentences.append(
            "Sample efficiency: mean return over all of training, the area under the learning "
            f"curve, with 0 for {scale}"
        )
    if len(config.environments) > 1:
        sentences.append(
            "There is no score over all tasks, since no return ranges were given."
            if config.return_ranges is None
            else f"In {ALL_TASKS}, returns count as (return - low) / (high - low), with low and "
            "high: "
            + "; ".join(
                f"{task}: {low:g} and {high:g}"
                for task, (low, high) in zip(config.environments, config.return_ranges, strict=True)
            )
            + "."
        )
    named = {f"{row.model} on {row.task}": row for row in rows}
    left_out = (f"Left out: {name}: {why}" for name, why in diverged.items())
    return [*sentences, *truncation_notes(named, config), *left_out]
