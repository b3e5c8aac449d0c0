"""Metrics for TensorBoard."""

from collections.abc import Sequence

from tensorboardX import SummaryWriter

from memorax.experiments.loggers.logger import LoggedModel, Metrics, means_over_seeds


class TensorBoardLogger:
    """``tensorboard/MODEL/``: events with the means over seeds.

    Args:
        logged: What is logged.
    """

    def __init__(self, logged: LoggedModel):
        self._writer = SummaryWriter(
            str(logged.folder.path / "tensorboard" / logged.model),
            purge_step=logged.step + 1 if logged.step else None,
        )

    def append(self, steps: Sequence[int], metrics: Metrics, seconds: float) -> None:
        """Add the means of some updates."""
        for step, means in means_over_seeds(steps, metrics):
            for name, mean in means.items():
                self._writer.add_scalar(name, mean, step)

    def flush(self) -> None:
        """Write the events down."""
        self._writer.flush()

    def close(self) -> None:
        """Let go of the files."""
        self._writer.close()
