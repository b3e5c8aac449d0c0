"""The command ``memorax environments``."""

import difflib
import io
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated

import tyro

from memorax.catalog.memory_task_facts import facts_of
from memorax.catalog.memory_tasks import MEMORY_TASKS
from memorax.catalog.suites import SUITES
from memorax.experiments.cli.errors import input_checked
from memorax.experiments.cli.listing import environments as suites
from memorax.experiments.cli.listing import in_columns
from memorax.experiments.cli.parsing import parse


@dataclass(frozen=True)
class Environments:
    """List the suites of environments, what is installed, and the tasks that match a pattern.

    Of our own tasks, it says what has to be remembered, the longest episode, the parts of an
    observation, the actions, the parameters with their defaults, the mean return of perfect play,
    and the most that a policy of the latest observation alone can reach; - where it is not known.
    """

    pattern: Annotated[str | None, tyro.conf.Positional] = None
    """A part of a task's name, or its whole with * and ?, such as 'popgym::*Easy'."""


def run(arguments: list[str]) -> int:
    """Run ``memorax environments`` and return its exit code."""
    options = parse(Environments, "memorax environments", arguments)
    if options.pattern is None:
        print("\n".join(in_columns(list(suites()))))
        return 0
    with input_checked():
        names = matching_names(options.pattern)
    ours = [name for name in names if name.startswith("memory::")]
    others = [name for name in names if name not in ours]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print("\n".join([*others, *task_lines(ours, width)]))
    return 0


def task_lines(names: Sequence[str], width: int | None) -> Iterator[str]:
    """Return what is known of our own tasks: a line each, or more where they are too long.

    Args:
        names: The tasks, as ``"memory::name"``.
        width: Columns of the terminal; None: as many as it takes.
    """
    if not names:
        return
    facts = [facts_of(name.partition("::")[2]) for name in names]
    columns = [
        ("task", *names),
        ("to remember", *(task.remember for task in facts)),
        ("best", *(_number(task.best) for task in facts)),
        ("without memory", *(_number(task.without_memory) for task in facts)),
        ("steps", *(f"{task.steps:,}" for task in facts)),
        ("observation", *(task.observation for task in facts)),
        ("actions", *(task.actions for task in facts)),
    ]
    fields = [" ".join(f"{name}={value}" for name, value in task.fields.items()) for task in facts]
    parameters = ("parameters", *fields)
    lines = _table([*columns, parameters])
    if width is None or max(map(len, lines)) <= width:
        yield from lines
        return
    first, *columns = columns
    while columns:
        # As many of them as fit beside the names.
        count = next(
            (
                count
                for count in range(len(columns), 1, -1)
                if max(map(len, _table([first, *columns[:count]]))) <= width
            ),
            1,
        )
        yield from _table([first, *columns[:count]])
        yield ""
        columns = columns[count:]
    for name, values in zip(first, parameters, strict=True):
        # A name and its value stay together.
        yield from textwrap.wrap(
            f"{name}  {values}", width, subsequent_indent="    ", break_long_words=False
        )


def _table(columns: Sequence[tuple[str, ...]]) -> list[str]:
    return list(in_columns(list(zip(*columns, strict=True))))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


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
