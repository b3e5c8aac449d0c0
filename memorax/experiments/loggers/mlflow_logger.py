"""Metrics for MLflow."""

import itertools
import os
import time
from collections.abc import Sequence

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from memorax.experiments.loggers.logger import LoggedModel, Metrics, means_over_seeds
from memorax.experiments.loggers.tracked_runs import flat_config, read_tracked, write_tracked

SERVICE = "mlflow"
EXPERIMENT = "memorax"
MOST_METRICS = 1_000
"""Of one request, which is MLflow's own limit."""


class MlflowLogger:
    """A run of the experiment ``memorax`` for each model, with means over seeds.

    It goes to ``MLFLOW_TRACKING_URI`` if that is set, else to ``mlflow.db`` in the run folder. A
    resumed run keeps its id, and nothing is logged twice.

    Args:
        logged: The logged model.
    """

    def __init__(self, logged: LoggedModel):
        # In a URI a percent sign and a question mark mean something else.
        path = str(logged.folder.path.absolute() / "mlflow.db")
        store = f"sqlite:///{path.replace('%', '%25').replace('?', '%3F')}"
        self._client = MlflowClient(tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", store))
        kept = read_tracked(logged, SERVICE)
        if kept:
            self._run_id = kept["id"]
            self._client.update_run(self._run_id, status="RUNNING")
            self._logged_step = self._last_step()
            return
        experiment = self._client.get_experiment_by_name(EXPERIMENT)
        experiment_id = (
            experiment.experiment_id if experiment else self._client.create_experiment(EXPERIMENT)
        )
        run = self._client.create_run(
            experiment_id, run_name=f"{logged.folder.path.name} {logged.model}"
        )
        self._run_id, self._logged_step = run.info.run_id, 0
        write_tracked(logged, SERVICE, {"id": self._run_id})
        params = [Param(name, str(value)) for name, value in flat_config(logged).items()]
        self._client.log_batch(self._run_id, params=params)

    def log(self, steps: Sequence[int], metrics: Metrics, seconds: float) -> None:
        """Log the means of some updates."""
        now = int(time.time() * 1000)
        later = (pair for pair in means_over_seeds(steps, metrics) if pair[0] > self._logged_step)
        # A batch holds all metrics of its updates, so that no step is left half logged.
        while updates := list(itertools.islice(later, MOST_METRICS // len(metrics))):
            self._client.log_batch(
                self._run_id,
                metrics=[
                    Metric(name, mean, now, step)
                    for step, means in updates
                    for name, mean in means.items()
                ],
            )

    def flush(self) -> None:
        """Do nothing: every batch has been stored."""

    def close(self) -> None:
        """End the run."""
        self._client.set_terminated(self._run_id)

    def _last_step(self) -> int:
        names = self._client.get_run(self._run_id).data.metrics
        histories = (self._client.get_metric_history(self._run_id, name) for name in names)
        return max((metric.step for metric in itertools.chain(*histories)), default=0)
