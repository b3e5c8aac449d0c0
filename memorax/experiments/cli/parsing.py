"""Parsing the options of a command with tyro."""

import argparse
import contextlib
import dataclasses
import io
import itertools
import re
from pathlib import Path
from typing import Any

import tyro

from memorax.catalog.algorithms import ALGORITHMS, DEFAULT_ALGORITHM
from memorax.experiments.cli.errors import BadInputError, input_checked
from memorax.experiments.cli.help import Option, help_text, options_of
from memorax.experiments.presets import preset
from memorax.experiments.presets.preset import Preset
from memorax.validation import find_name, unknown_name

ALGORITHM = Option(
    *("algorithm", "--algorithm", " NAME"),
    f"{', '.join(ALGORITHMS)}; its options are those of --help-all.",
    default=DEFAULT_ALGORITHM,
)
"""The option that ``take_algorithm`` takes."""
PRESET = Option(
    *("preset", "--preset", " NAME"),
    "A complete setting that is known to learn, one of those that 'memorax presets' lists: the "
    "defaults are then those of the preset.",
)
"""The option that ``take_preset`` takes."""


def parse(
    kind: Any,
    program: str,
    arguments: list[str],
    default: Any = None,
    taken: tuple[Option, ...] = (),
) -> Any:
    """Return the options of a command, or print its help and exit.

    Args:
        kind: The dataclass of its options.
        program: The command, such as ``memorax train``.
        arguments: The arguments after it.
        default: The defaults of the options, if not those of the dataclass.
        taken: Options that have been taken from the arguments already.

    Raises:
        BadInputError: If an option is unknown or has an invalid value.
        SystemExit: After ``--help`` or ``--help-all``.
    """
    if {"-h", "--help", "--help-all"} & set(arguments):
        print(help_text(program, default or kind, "--help-all" in arguments, taken))
        raise SystemExit(0)
    call: dict[str, Any] = {"prog": program}
    if default is not None:
        call["default"] = default
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            options, unknown = tyro.cli(kind, args=arguments, return_unknown_args=True, **call)
    except SystemExit as stop:
        if stop.code == 2:
            options = tuple(options_of(default or kind))
            raise BadInputError(_in_words(_first_paragraph(printed.getvalue()), options)) from stop
        raise
    except ValueError as error:
        raise BadInputError(error) from error
    if unknown:
        word = next(filter(_is_positional, dataclasses.fields(options)), None)
        if word and not unknown[0].startswith("-"):
            given = f"'{getattr(options, word.name)}' and {unknown[0]!r}"
            raise BadInputError(f"{program} takes one {word.name}, got {given}")
        _check_algorithm_has(unknown[0], options)
        known = [*taken, *options_of(default or kind)]
        flags = ["--help", *(option.flag for option in known if not option.positional)]
        raise BadInputError(unknown_name("option", unknown[0], flags))
    return options


def take_algorithm(arguments: list[str]) -> tuple[str | None, list[str]]:
    """Return ``--algorithm NAME``, which decides what the options are, and all other arguments.

    Raises:
        BadInputError: If there is no such algorithm.
    """
    algorithm, rest = _take("--algorithm", arguments)
    if algorithm is None:
        return None, rest
    with input_checked():
        return find_name("algorithm", algorithm, ALGORITHMS), rest


def take_preset(arguments: list[str]) -> tuple[Preset | None, list[str]]:
    """Return the preset of ``--preset NAME``, which decides the defaults, and all other arguments.

    Raises:
        BadInputError: If there is no such preset.
    """
    name, rest = _take("--preset", arguments)
    if name is None:
        return None, rest
    with input_checked():
        return preset.load(name), rest


def take_algorithm_and_preset(
    arguments: list[str],
) -> tuple[str | None, Preset | None, list[str]]:
    """Return the algorithm, of ``--algorithm`` or of ``--preset``, the preset, and the rest.

    Raises:
        BadInputError: If there is no such algorithm or preset, or the preset is of another.
    """
    algorithm, arguments = take_algorithm(arguments)
    preset, arguments = take_preset(arguments)
    if preset is None:
        return algorithm, None, arguments
    if algorithm is not None:
        check_preset_algorithm(preset, algorithm)
    return preset.algorithm, preset, arguments


def check_preset_algorithm(preset: Preset, algorithm: str) -> None:
    """Check that a preset is of the algorithm that is asked for.

    Raises:
        BadInputError: If it is of another.
    """
    if algorithm != preset.algorithm:
        raise BadInputError(
            f"preset {preset.name!r} is a setting of {preset.algorithm}, got algorithm "
            f"{algorithm!r}"
        )


def _take(flag: str, arguments: list[str]) -> tuple[str | None, list[str]]:
    """Return the value of a flag that is taken before tyro sees the others."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(flag, dest="value", nargs="?", const="")
    known, rest = parser.parse_known_args(arguments)
    return known.value, rest


def _check_algorithm_has(flag: str, options: Any) -> None:
    """Raise if an unknown option belongs to another algorithm."""
    config = getattr(options, "config", None)
    algorithm = getattr(getattr(config, "train", config), "algorithm_name", None)
    field = flag.partition("=")[0].removeprefix("--").removeprefix("no-").replace("-", "_")
    having = [
        name
        for name, entry in ALGORITHMS.items()
        if field in {item.name for item in dataclasses.fields(entry.config)}
    ]
    if algorithm and having:
        raise BadInputError(f"{flag} is an option of {', '.join(having)}, and not of {algorithm}")


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


def _is_positional(field: dataclasses.Field) -> bool:
    return tyro.conf.Positional in getattr(field.type, "__metadata__", ())


def _first_paragraph(box: str) -> str:
    """Return the first paragraph in the box that tyro draws around an error, as one line."""
    lines = [line.strip(" │") for line in box.splitlines()]
    # The title is in the upper edge, or above a line where the terminal has no such characters.
    edge = next(index for index, line in enumerate(lines) if line.startswith(("╭", "---")))
    paragraph = itertools.takewhile(lambda line: line.strip("─-"), lines[edge + 1 :])
    return " ".join(paragraph)


KINDS = {"N": "an integer", "X": "a number", "NAME": "a name", "PATH": "a path"}
"""What the words of ``Option.values`` mean."""


def _in_words(message: str, options: tuple[Option, ...]) -> str:
    """Return an error of tyro's in the words of the help: the given value and the allowed ones."""
    if message.startswith("Missing from"):
        needed = next(option for option in options if option.positional)
        return f"{needed.flag} is missing: {needed.help}"
    from_configuration = re.match(r"Error parsing [\w.]+: (.*)", message)
    if from_configuration:
        # Configurations name the field that is wrong, tyro only the dataclass.
        return from_configuration[1]
    flag = re.search(r"--[\w.-]+", message)
    written = {option.flag: option.values.strip() for option in options}
    if not flag or flag[0] not in written:
        return message
    reason = message.partition(": ")[2]
    if reason.startswith("must be"):
        return f"{flag[0]} {reason}"
    wanted = written[flag[0]]
    if "|" in wanted:
        wanted = f"one of {', '.join(wanted.split('|'))}"
    given = re.findall(r"'([^']*)'", message.replace(f"'{flag[0]}'", ""))
    if message.startswith("invalid choice"):
        given = given[:1]
    got = " ".join(given) if given else "fewer values"
    return f"{flag[0]} takes {KINDS.get(wanted, wanted)}, got {got if not given else repr(got)}"
