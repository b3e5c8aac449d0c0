"""Which environments there are."""

import io
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from fnmatch import fnmatchcase

from rich.table import Table

from memorax import environments


def suites_table() -> Table:
    """Show every suite, and how to install it if it is not; nothing is imported for it."""
    result = Table(box=None, pad_edge=False)
    for column in ("suite", "installed"):
        result.add_column(column)
    for name, suite in sorted(environments.SUITES.items()):
        # The bracket would be read as a style.
        remedy = f"pip install 'memorax\\[{suite.extra}]'"
        result.add_row(name, "yes" if suite.installed else f"no: {remedy}")
    return result


def matching_names(pattern: str) -> Iterator[str]:
    """Yield the environments of installed suites whose name matches, as ``"suite::name"``.

    Args:
        pattern: With ``*``, ``?`` or ``[``, what the whole name is like; else a part of it.
            Upper and lower case are the same.
    """
    pattern = pattern.lower()
    if not set(pattern) & set("*?["):
        pattern = f"*{pattern}*"
    for suite in _suites(pattern):
        # Some packages complain of what they lack, to whoever imports them.
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            names = environments.names(suite)
        for name in sorted(names):
            if fnmatchcase(f"{suite}::{name}".lower(), pattern):
                yield f"{suite}::{name}"


def _suites(pattern: str) -> list[str]:
    """Return the installed suites that can match: importing the others would take seconds."""
    suite, separator, _ = pattern.partition("::")
    return [
        name
        for name in sorted(environments.SUITES)
        if environments.SUITES[name].installed
        and (not separator or fnmatchcase(name, suite.lstrip("*")) or fnmatchcase(name, suite))
    ]
