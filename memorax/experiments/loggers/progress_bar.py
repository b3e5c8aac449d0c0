"""A progress bar in the terminal."""

from collections.abc import Sequence

from rich.progress import Progress

from memorax.algorithms import progress
from memorax.experiments.loggers.logger import LoggedModel, Metrics


class ProgressBar:
    """A live bar: steps per second over all seeds, time left, return with its spread over seeds.

    Args:
        logged: The logged model.
    """

    def __init__(self, logged: LoggedModel):
        self._progress = progress_line(logged)
        self._progress.start()

    def log(self, steps: Sequence[int], metrics: Metrics, seconds: float) -> None:
        """Show that some updates have finished."""
        advance(self._progress, steps, metrics, seconds)

    def flush(self) -> None:
        """Do nothing: what is shown is not kept."""

    def close(self) -> None:
        """Leave the bar's last state standing."""
        self._progress.stop()


def progress_line(logged: LoggedModel) -> Progress:
    """Return a line that shows how far a model is, how fast it goes, and its return."""
    return progress.progress_line(
        logged.model, logged.total_steps, logged.step, console=logged.console
    )


def advance(line: Progress, steps: Sequence[int], metrics: Metrics, seconds: float) -> None:
    """Show in a ``progress_line`` that some updates have finished."""
    progress.advance(line, steps[-1], metrics["episode_return"], seconds)
