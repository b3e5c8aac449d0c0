"""The result of one run of a study, read from its folder."""

import json
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from memorax.experiments.files.fields import reading
from memorax.experiments.run.best_return import read_best_returns
from memorax.experiments.run.folder import RunFolder, read_curves, read_timing
from memorax.experiments.study.statistics import fill_gaps


@dataclass(frozen=True)
class RunResult:
    """The result of a finished run of one model.

    Attributes:
        returns: Each seed's mean return on fresh episodes after training.
        steps: Environment steps of a seed by the end of each update.
        curves: Each seed's mean return of the episodes that ended in an update, gaps filled.
        num_parameters: Parameters of all its networks.
        carry_bytes: Size of the networks' carries for one environment.
        steps_per_second: Environment steps of all seeds in a second of training.
        num_ended: Episodes of the evaluation that ended by themselves, over all seeds.
        num_cut_off: Those that ``evaluation_steps`` truncated.
        sampled_returns: Each seed's mean return on the same episodes with sampled actions; NaN in
            runs of versions that did not evaluate these.
        best_returns: Each seed's best mean return while training.
    """

    returns: Float[np.ndarray, " runs"]
    steps: Int[np.ndarray, " updates"]
    curves: Float[np.ndarray, "runs updates"]
    num_parameters: int
    carry_bytes: int
    steps_per_second: float
    num_ended: int
    num_cut_off: int
    sampled_returns: Float[np.ndarray, " runs"]
    best_returns: Float[np.ndarray, " runs"]


def read_result(folder: RunFolder) -> RunResult:
    """Read the result of a finished run of one model from its folder.

    Raises:
        UnreadableError: If a file is missing or cannot be read.
    """
    with reading(folder.path, "result of a run"):
        (evaluation,) = json.loads((folder.path / "evaluation.json").read_text(encoding="utf-8"))
        timing = read_timing(folder)[evaluation["model"]]
        steps, curves = read_curves(folder)[evaluation["model"]]
        returns = np.array(evaluation["seed_returns"], float)
        if "sampled" in evaluation:
            sampled_returns = np.array(evaluation["sampled"]["seed_returns"], float)
        else:
            sampled_returns = np.full_like(returns, np.nan)
        return RunResult(
            returns=returns,
            steps=steps,
            curves=fill_gaps(curves),
            num_parameters=int(evaluation["num_parameters"]),
            carry_bytes=int(evaluation["carry_bytes"]),
            steps_per_second=timing["steps"] / timing["seconds"],
            num_ended=int(evaluation["num_ended"]),
            num_cut_off=int(evaluation["num_cut_off"]),
            sampled_returns=sampled_returns,
            best_returns=read_best_returns(folder, evaluation["model"], len(returns)),
        )
