"""What the command line prints for each exception, and its exit code."""

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console

from memorax.experiments.files.fields import UnreadableError
from memorax.experiments.files.lock import FolderInUseError
from memorax.experiments.files.write_errors import WriteFailedError
from memorax.experiments.run.failures import (
    CheckpointError,
    DivergedError,
    EnvironmentFailedError,
    TerminatedError,
)
from memorax.failures import EnvironmentProcessError

DEBUG = "MEMORAX_DEBUG"
"""The environment variable that shows the trace behind every error of one line."""


class BadInputError(Exception):
    """Something that the user can correct; the message is one line."""


BAD_INPUT = BadInputError, CheckpointError, FolderInUseError, UnreadableError
FAILURES = DivergedError, EnvironmentFailedError, WriteFailedError


@contextlib.contextmanager
def input_checked() -> Iterator[None]:
    """Take what is raised before anything trains for bad input.

    Raises:
        BadInputError: In the place of ValueError and the like, which elsewhere are bugs.
    """
    try:
        yield
    except (ValueError, ModuleNotFoundError, EnvironmentProcessError) as error:
        raise BadInputError(error) from error


def exit_code(command: Callable[[], int]) -> int:
    """Run a command and return its exit code, with one line on standard error if it fails.

    Args:
        command: The command.
    """
    try:
        return command()
    except BAD_INPUT as error:
        return _failed(error, error, 2)
    except FAILURES as error:
        return _failed(error, error, 1)
    except RuntimeError as error:
        failure = _failure_of_a_program(error)
        if failure is None:
            raise
        return _failed(error, failure, 1)
    except KeyboardInterrupt:
        print("memorax: stopped; the last checkpoint is kept", file=sys.stderr)
        return 130


def _failure_of_a_program(error: RuntimeError) -> str | None:
    """Return why a program of JAX failed, if it is known."""
    import jax

    from memorax.environments import process_failure
    from memorax.experiments.run.processes import out_of_memory

    if not isinstance(error, jax.errors.JaxRuntimeError):
        return None
    return out_of_memory(error) or process_failure(error)


def _failed(error: BaseException, message: object, code: int) -> int:
    if os.environ.get(DEBUG, "0") not in ("", "0"):
        traceback.print_exception(error)
    print(f"memorax: error: {message}", file=sys.stderr)
    return code


def train_to_end(train: Callable[[], Any], resume: str, console: Console) -> int:
    """Return the exit code of training, which returns None if Ctrl-C has interrupted it.

    Args:
        train: Trains.
        resume: The command that resumes it.
        console: Where to print that command if training was interrupted.
    """
    code = 130
    try:
        if train() is not None:
            return 0
    except TerminatedError as stopped:
        code = 128 + stopped.number
    console.print(f"resume with: {resume}", soft_wrap=True)
    return code
