"""The results of a study: a row for each of its trials."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from memorax.experiments.study.statistics import (
    interquartile_mean,
    probability_of_improvement,
    stratified_bootstrap_interval,
)
from memorax.experiments.study.trial import Ending, Outcome, Trial


@dataclass(frozen=True)
class Row:
    """The returns of one model on one task, or its scores over all tasks.

    Unknown values, such as the interval of a single seed, are ``None``, and so is what results of
    earlier versions do not have.

    Attributes:
        task: The task, or that these are all tasks.
        model: The model.
        interquartile_mean: Of the seeds' mean returns on fresh episodes after training.
        low: Lower end of its 95 % stratified bootstrap interval.
        high: Its upper end.
        probability_of_improvement: Over the first model of a comparison, from 0 to 1.
        sample_efficiency: The interquartile mean over seeds of the mean over all of training,
            which is the area under the learning curve as a share of its length.
        num_parameters: Parameters of all its networks.
        carry_bytes: Size of the networks' carries for one environment.
        steps_per_second: Environment steps of all seeds in a second of training.
        seed_values: Each seed's mean return; over all tasks, its mean score.
        num_ended: Episodes of the evaluation that ended by themselves, over all seeds.
        num_cut_off: Those that ``evaluation_steps`` truncated.
        sampled_return: The interquartile mean with sampled actions, on the same episodes.
        best_return: The mean over seeds of the best mean return while training.
        trial: The trial's name in a sweep.
        values: Its value of each option that is searched.
        outcome: How it ended.
        last_return: Mean return in the last tenth of training that it completed.
        why: Why it did not finish.
    """

    task: str
    model: str
    interquartile_mean: float | None
    low: float | None
    high: float | None
    probability_of_improvement: float | None = None
    sample_efficiency: float | None = None
    num_parameters: int | None = None
    carry_bytes: int | None = None
    steps_per_second: float | None = None
    seed_values: list[float] = field(default_factory=list)
    num_ended: int | None = None
    num_cut_off: int | None = None
    sampled_return: float | None = None
    best_return: float | None = None
    trial: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    outcome: Outcome = "finished"
    last_return: float | None = None
    why: str = ""


def make_rows(trials: Sequence[Trial], reference: str | None = None) -> list[Row]:
    """Return a row for each trial, in their order.

    Args:
        trials: The trials, all of which have ended.
        reference: The label of the model that others are compared with on the same task, if any.
    """
    compared = {
        trial.task: trial.result.returns[:, None]
        for trial in trials
        if trial.label == reference and _ending(trial).outcome == "finished"
    }
    return [_row(trial, None if trial.label == reference else compared) for trial in trials]


def _row(trial: Trial, compared: Mapping[str, np.ndarray] | None) -> Row:
    ending = _ending(trial)
    finished: dict[str, Any] = dict.fromkeys(("interquartile_mean", "low", "high"))
    if ending.outcome == "finished":
        result = trial.result
        finished = statistics(
            result.returns[:, None],
            result.curves.mean(axis=1, keepdims=True),
            (compared or {}).get(trial.task),
        ) | {
            "num_parameters": result.num_parameters,
            "carry_bytes": result.carry_bytes,
            "steps_per_second": result.steps_per_second,
            "num_ended": result.num_ended,
            "num_cut_off": result.num_cut_off,
            "sampled_return": known(interquartile_mean(result.sampled_returns[:, None])),
            "best_return": known(np.asarray(result.best_returns.mean())),
        }
    return Row(
        task=trial.task,
        model=trial.label or trial.values.get("torso", trial.train.torso),
        trial="" if trial.label else trial.name,
        values=trial.values,
        outcome=ending.outcome,
        last_return=next((part for part in reversed(ending.reports) if part is not None), None),
        why=ending.why,
        **finished,
    )


def _ending(trial: Trial) -> Ending:
    ending = trial.ending
    if ending is None:
        raise ValueError(f"{trial.title} has not ended")
    return ending


def statistics(
    values: Float[np.ndarray, "seeds tasks"],
    trained: Float[np.ndarray, "seeds tasks"],
    others: Float[np.ndarray, "seeds tasks"] | None,
) -> dict[str, Any]:
    """Return a row's statistics over seeds.

    Args:
        values: What each seed reached on each task after training.
        trained: Its mean over all of training.
        others: What the seeds of the model reached that this one is compared with, if any.
    """
    low, high = stratified_bootstrap_interval(values, interquartile_mean)
    return {
        "interquartile_mean": known(interquartile_mean(values)),
        "low": known(low),
        "high": known(high),
        "probability_of_improvement": (
            None if others is None else probability_of_improvement(values, others)
        ),
        "sample_efficiency": known(interquartile_mean(trained)),
        "seed_values": values.mean(axis=1).tolist(),
    }


def known(value: np.ndarray) -> float | None:
    """Return a number, ``None`` for NaN, which JSON does not have."""
    return None if np.isnan(value) else float(value)
