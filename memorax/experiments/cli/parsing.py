"""Parsing the options of a command with tyro."""

import argparse
import contextlib
import dataclasses
import io
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tyro

from memorax.experiments.cli.errors import BadInputError
from memorax.experiments.run.config import ALGORITHMS
from memorax.experiments.study.folder import StudyFolder, differences
from memorax.validation import unknown_name


def parse(kind: Any, program: str, arguments: list[str], default: Any = None) -> Any:
    """Return the options of a command.

    Args:
        kind: The dataclass of its options.
        program: The command, such as ``memorax train``.
        arguments: What follows it.
        default: The defaults of the options, if not those of the dataclass.

    Raises:
        BadInputError: If an option is unknown or has an invalid value.
    """
    call: dict[str, Any] = {"prog": program}
    if default is not None:
        call["default"] = default
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            options, unknown = tyro.cli(kind, args=arguments, return_unknown_args=True, **call)
    except SystemExit as stop:
        if stop.code == 2:
            raise BadInputError(_first_paragraph(printed.getvalue())) from stop
        raise
    except ValueError as error:
        raise BadInputError(error) from error
    if unknown:
        word = next(filter(_is_positional, dataclasses.fields(options)), None)
        if word and not unknown[0].startswith("-"):
            given = f"'{getattr(options, word.name)}' and {unknown[0]!r}"
            raise BadInputError(f"{program} takes one {word.name}, got {given}")
        flags = ["--help", *_flags(default or kind)]
        raise BadInputError(unknown_name("option", unknown[0], flags))
    return options


def take_algorithm(arguments: list[str]) -> tuple[str | None, list[str]]:
    """Return ``--algorithm NAME``, which decides what the options are, and all other arguments.

    Raises:
        BadInputError: If there is no such algorithm.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--algorithm", nargs="?", const="")
    known, rest = parser.parse_known_args(arguments)
    if known.algorithm is not None and known.algorithm not in ALGORITHMS:
        raise BadInputError(unknown_name("algorithm", known.algorithm, ALGORITHMS))
    return known.algorithm, rest


def check_same_algorithm(stored: str, given: str | None, config: Path) -> None:
    """Check that a run or a study is resumed with the algorithm that it has.

    Args:
        stored: Its algorithm.
        given: ``--algorithm``.
        config: Its ``config.json``.

    Raises:
        BadInputError: If another is given.
    """
    if given not in (None, stored):
        raise BadInputError(f"{config} is resumed as it is: algorithm is {stored!r}, got {given!r}")


def resume_study(folder: StudyFolder, given: Any) -> Any:
    """Return the configuration of a study that is resumed.

    Args:
        folder: Its folder.
        given: The configuration that the command line asks for.

    Raises:
        BadInputError: If that is another one.
    """
    stored = folder.config()
    changed = ", ".join(differences(stored, given))
    if changed:
        raise BadInputError(
            f"a {folder.study} resumes with the configuration it has: in "
            f"{folder.path / 'config.json'} {changed}"
        )
    return stored


def _flags(options: Any, prefix: str = "--") -> Iterator[str]:
    """Name the flags of a dataclass, and of those inside it if it is an instance."""
    for field in itertools.filterfalse(_is_positional, dataclasses.fields(options)):
        inside = getattr(options, field.name, None)
        if dataclasses.is_dataclass(inside):
            # Only a comparison has algorithms side by side.
            yield from _flags(inside, f"--{field.name}." if field.name in ALGORITHMS else prefix)
        else:
            yield f"{prefix}{field.name.replace('_', '-')}"


def _is_positional(field: dataclasses.Field) -> bool:
    return tyro.conf.Positional in getattr(field.type, "__metadata__", ())


def _first_paragraph(box: str) -> str:
    """Return the first paragraph in the box that tyro draws around an error, as one line."""
    lines = [line.strip(" │") for line in box.splitlines()]
    # The title is in the upper edge, or above a line where the terminal has no such characters.
    edge = next(index for index, line in enumerate(lines) if line.startswith(("╭", "---")))
    paragraph = itertools.takewhile(lambda line: line.strip("─-"), lines[edge + 1 :])
    # Configurations name the field that is wrong, tyro only the dataclass.
    return re.sub(r"^Error parsing config[\w.]*: ", "", " ".join(paragraph))
