"""Handling of files that cannot be written."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Literal

from rich.console import Console

OnWriteError = Literal["stop", "continue"]


class WriteFailedError(Exception):
    """A file could not be written; the message names it, the reason and the last checkpoint."""


class WriteErrors:
    """Stops a run when a file cannot be written, or reports it and continues.

    Args:
        choice: Which of them.
        console: Where to report.
    """

    def __init__(self, choice: OnWriteError, console: Console):
        self._choice = choice
        self._console = console
        self._failures: Counter[str] = Counter()

    @contextlib.contextmanager
    def caught(self, what: str) -> Iterator[None]:
        """Catch what goes wrong with writing something.

        Args:
            what: The written file's name in the message.

        Raises:
            WriteFailedError: If that is to stop the run.
        """
        try:
            yield
        except OSError as error:
            failure = f"{what} could not be written: {error}"
            if self._choice == "stop":
                raise WriteFailedError(failure) from error
            if not self._failures[what]:
                self._console.print(f"{failure}; the run continues", soft_wrap=True)
            self._failures[what] += 1

    def report(self) -> None:
        """Report again, at the end, which files could not be written, and how often."""
        for what, times in self._failures.items():
            self._console.print(f"{what} could not be written {times} time(s)")
