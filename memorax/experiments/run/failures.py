"""Exceptions that stop a run or reject its input; the command line prints each in one line."""

import signal


class CheckpointError(ValueError):
    """A checkpoint does not fit, is damaged, or is not there; the message says which and why."""


class DivergedError(Exception):
    """A loss became non-finite; the message names it, the step and the last checkpoint."""


class TerminatedError(Exception):
    """A signal other than Ctrl-C stopped the run; its progress is saved.

    Args:
        number: The signal.
    """

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


class EnvironmentFailedError(Exception):
    """An environment failed in its process; the message has the traceback and last checkpoint."""
