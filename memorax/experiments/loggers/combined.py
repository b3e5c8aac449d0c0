"""Several loggers as one."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from memorax.experiments.loggers.logger import LoggedModel, Logger
from memorax.experiments.loggers.registry import LOGGERS


class CombinedLogger:
    """Hands on what it is told to every logger that a run asks for.

    ``metrics.csv`` is always written: it is what learning curves are read from.

    Args:
        names: The names of the loggers.
        logged: What is logged.
    """

    def __init__(self, names: Sequence[str], logged: LoggedModel):
        self._loggers: list[Logger] = []
        with ExitStack() as opened:
            for name in dict.fromkeys(("csv", *names)):
                logger: Logger = LOGGERS[name].load()(logged)
                opened.callback(logger.close)
                self._loggers.append(logger)
            self._opened = opened.pop_all()

    def append(self, steps: Sequence[int], metrics: Any, seconds: float) -> None:
        """Hand on the metrics of some updates, arrays of shape (seeds, updates)."""
        arrays = {name: np.asarray(values) for name, values in metrics.items()}
        for logger in self._loggers:
            logger.append(steps, arrays, seconds)

    def flush(self) -> None:
        """Let every logger write down what it has."""
        for logger in self._loggers:
            logger.flush()

    def close(self) -> None:
        """Close every logger, also if one of them fails."""
        self._opened.close()
