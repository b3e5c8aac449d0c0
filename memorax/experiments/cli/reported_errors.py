"""Filters for errors that other libraries log and the command line reports itself."""

import importlib
import logging
import sys
from typing import Any

from memorax.failures import EnvironmentProcessError

_unraisable_hook = sys.unraisablehook


def hide_reported_errors() -> None:
    """Keep traces off the screen of errors that are raised, and reported, as well.

    This changes the logging and ``sys.unraisablehook`` of the whole process, so only the command
    line calls it; calling it again changes nothing.
    """
    # Absl's logger knows which library logged only if absl itself has made it.
    importlib.import_module("absl.logging")
    # Orbax logs every failure. Those of a save that come after the first are not awaited:
    # asyncio logs them, or TensorStore passes them to an event loop that is already closed.
    logging.getLogger("absl").addFilter(_is_not_orbax)
    logging.getLogger("asyncio").addFilter(_does_not_name_orbax)
    sys.unraisablehook = _ignore_closed_event_loop
    # JAX logs what a callback raises, before it raises it again.
    logging.getLogger("jax._src.callback").addFilter(_is_not_of_an_environment)


def _is_not_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in record.pathname


def _does_not_name_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in record.getMessage()


def _is_not_of_an_environment(record: logging.LogRecord) -> bool:
    return not record.exc_info or not isinstance(record.exc_info[1], EnvironmentProcessError)


def _ignore_closed_event_loop(failure: Any) -> None:
    if str(failure.exc_value) != "Event loop is closed":
        _unraisable_hook(failure)
