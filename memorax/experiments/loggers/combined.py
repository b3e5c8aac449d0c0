"""Several loggers as one."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import numpy as np

from memorax.experiments.files.write_errors import WriteErrors
from memorax.experiments.loggers.logger import LoggedModel, Logger
from memorax.experiments.loggers.registry import LOGGERS


class CombinedLogger:
    """Forwards metrics to every logger of a run.

    ``metrics.csv`` is always written: it is what learning curves are read from. Of several
    processes that train together, only the one that writes the folder has loggers.

    Args:
        names: The names of the loggers.
        logged: The logged model.
        writes: Handles write errors.
    """

    def __init__(self, names: Sequence[str], logged: LoggedModel, writes: WriteErrors):
        self._loggers: dict[str, Logger] = {}
        self._writes = writes
        with ExitStack() as opened:
            for name in dict.fromkeys(("csv", *names) if logged.folder.writes else ()):
                with self._guard(name):
                    self._loggers[name] = LOGGERS[name].load()(logged)
                    opened.callback(self._close, name)
            self._opened = opened.pop_all()

    def log(self, steps: Sequence[int], metrics: Any, seconds: float) -> None:
        """Hand on the metrics of some updates, arrays of shape (seeds, updates)."""
        arrays = {name: np.asarray(values) for name, values in metrics.items()}
        for name, logger in self._loggers.items():
            with self._guard(name):
                logger.log(steps, arrays, seconds)

    def flush(self) -> None:
        """Flush every logger."""
        for name, logger in self._loggers.items():
            with self._guard(name):
                logger.flush()

    def close(self) -> None:
        """Close every logger, also if one of them fails."""
        self._opened.close()

    def _close(self, name: str) -> None:
        with self._guard(name):
            self._loggers[name].close()

    def _guard(self, name: str) -> AbstractContextManager[None]:
        return self._writes.caught(f"log {name}")
