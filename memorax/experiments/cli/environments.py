"""The command ``memorax environments``."""

import difflib
import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated

import tyro

from memorax.catalog.memory_tasks import MEMORY_TASKS
from memorax.catalog.suites import SUITES
from memorax.experiments.cli.errors import input_checked
from memorax.experiments.cli.listing import environments as suites
from memorax.experiments.cli.listing import in_columns
from memorax.experiments.cli.parsing import parse


@dataclass(frozen=True)
class Environments:
    """List the suites of environments, what is installed, and the tasks that match a pattern."""

    pattern: Annotated[str | None, tyro.conf.Positional] = None
    """A part of a task's name, or its whole with * and ?, such as 'popgym::*Easy'."""


def run(arguments: list[str]) -> int:
    """Run ``memorax environments`` and return its exit code."""
    options = parse(Environments, "memorax environments", arguments)
    if options.pattern is None:
        print("\n".join(in_columns(list(suites()))))
        return 0
    with input_checked():
        print("\n".join(matching_names(options.pattern)))
    return 0


def matching_names(pattern: str) -> list[str]:
    """Return the environments of installed suites whose name matches, as ``"suite::name"``.

    A suite that cannot be imported is reported and skipped.

    Args:
        pattern: A part of the name, or with ``*``, ``?`` or ``[`` a pattern of the whole.
            Upper and lower case are the same.

    Raises:
        ValueError: If none does; the closest are named.
    """
    whole = pattern.lower()
    if not set(whole) & set("*?["):
        whole = f"*{whole}*"
    names = [f"{suite}::{name}" for suite in _suites(whole) for name in _names(suite)]
    matching = [name for name in names if fnmatchcase(name.lower(), whole)]
    if not matching:
        closest = _closest(pattern.lower(), names)
        raise ValueError(
            f"no environment of an installed suite matches {pattern!r}"
            + (f"; the closest are: {', '.join(closest)}" if closest else "")
        )
    return matching


def _suites(pattern: str) -> list[str]:
    """Return the installed suites that can match: importing the others would take seconds."""
    suite, separator, _ = pattern.partition("::")
    return [
        name
        for name in _installed()
        if not separator or fnmatchcase(name, suite.lstrip("*")) or fnmatchcase(name, suite)
    ]


def _installed() -> list[str]:
    return [name for name, suite in sorted(SUITES.items()) if suite.installed]


def _names(suite: str) -> list[str]:
    if suite == "memory":
        return sorted(MEMORY_TASKS)
    from memorax import environments

    try:
        # Some packages print warnings about missing packages when they are imported.
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            return sorted(environments.names(suite))
    except (ValueError, ModuleNotFoundError) as error:
        print(f"memorax: {error}", file=sys.stderr)
        return []


def _closest(pattern: str, names: list[str]) -> list[str]:
    """Return the names closest to a pattern, among ``names`` if its suite is known."""
    word = "".join(character for character in pattern if character not in "*?[]")
    suite, separator, _ = word.partition("::")
    if not separator:
        choices = _installed() + [name.partition("::")[2] for name in names]
    elif names:
        choices = names
    else:
        word, choices = suite, _installed()
    shown = {choice.lower(): choice for choice in choices}
    return [shown[choice] for choice in difflib.get_close_matches(word, shown, n=3)]
