"""Metrics for Weights & Biases."""

import os
from collections.abc import Sequence

import wandb

from memorax.experiments.loggers.logger import LoggedModel, Metrics, means_over_seeds
from memorax.experiments.loggers.tracked_runs import flat_config, read_tracked, write_tracked

SERVICE = "wandb"


class WandbLogger:
    """A run of the project ``memorax`` for each model, with means over seeds.

    Those of one run folder are a group. Where it goes is Weights & Biases' own business:
    ``WANDB_MODE=offline`` keeps it in the run folder's ``wandb/``, ``WANDB_PROJECT`` and
    ``WANDB_ENTITY`` name another place. A resumed run keeps its id, and what was sent
    is not sent again.

    Args:
        logged: The logged model.
    """

    def __init__(self, logged: LoggedModel):
        self._logged = logged
        kept = read_tracked(logged, SERVICE)
        self._sent = kept.get("step", 0)
        settings = wandb.Settings(
            # The terminal belongs to other loggers.
            console="off",
            quiet=True,
            run_id=kept.get("id"),
            run_name=f"{logged.folder.path.name} {logged.model}",
            run_group=logged.folder.path.name,
            resume="allow",
            reinit="create_new",
        )
        self._run = wandb.init(
            dir=logged.folder.path,
            project=os.environ.get("WANDB_PROJECT", "memorax"),
            config=flat_config(logged),
            settings=settings,
        )
        self._keep()

    def log(self, steps: Sequence[int], metrics: Metrics, seconds: float) -> None:
        """Send the means of some updates."""
        for step, means in means_over_seeds(steps, metrics):
            if step > self._sent:
                # Commit each step, since an uncommitted one is lost if the run is killed.
                self._run.log(means, step=step, commit=True)
                self._sent = step
        self._keep()

    def flush(self) -> None:
        """Do nothing: everything has been sent."""

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()

    def _keep(self) -> None:
        write_tracked(self._logged, SERVICE, {"id": self._run.id, "step": self._sent})
