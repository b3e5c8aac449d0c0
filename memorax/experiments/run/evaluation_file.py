"""The results of an evaluation as a file."""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memorax.algorithms.evaluation import EvaluationReport
from memorax.experiments.files.write_errors import WriteFailedError
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.evaluation import Evaluation, Reports


@dataclass(frozen=True)
class Evaluated:
    """The evaluation of all models on one task.

    Attributes:
        config: The configuration that was evaluated.
        evaluations: Each model's evaluation.
        reports: Each model's reports.
    """

    config: TrainConfig
    evaluations: list[Evaluation]
    reports: list[Reports]


def write(path: Path, evaluated: Sequence[Evaluated]) -> None:
    """Write the results of evaluations as JSON, unknown values as ``null``.

    Args:
        path: The file.
        evaluated: One evaluation, whose fields the file has, or several, which it has as a list
            named ``evaluations``.

    Raises:
        WriteFailedError: If it cannot be written.
    """
    parts = [_results(one) for one in evaluated]
    results = parts[0] if len(parts) == 1 else {"evaluations": parts}
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(json.dumps(results, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise WriteFailedError(f"{path} could not be written: {error}") from error


def _results(evaluated: Evaluated) -> dict[str, Any]:
    return {
        "environment": evaluated.config.environment,
        "environment_parameters": evaluated.config.parsed_environment_parameters,
        "models": [
            _fields(evaluation)
            | _episodes(seen.most_likely)
            | {"sampled": _fields(evaluation.sampled) | _episodes(seen.sampled)}
            for evaluation, seen in zip(evaluated.evaluations, evaluated.reports, strict=True)
        ],
    }


def _fields(reached: Any) -> dict[str, Any]:
    return {name: _known(value) for name, value in asdict(reached).items()}


def _known(value: Any) -> Any:
    if isinstance(value, list):
        return [_known(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _episodes(report: EvaluationReport) -> dict[str, Any]:
    """Return the values of each episode, lists of lists: (seeds, episodes)."""
    returns = np.asarray(report.episode_returns, np.float64)
    return {
        "standard_deviation": float(returns.std()),
        "episode_returns": returns.tolist(),
        "episode_lengths": np.asarray(report.episode_lengths).tolist(),
        "completed": np.asarray(report.completed).tolist(),
    }
