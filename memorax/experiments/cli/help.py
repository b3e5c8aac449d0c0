"""The help of a command, its options in groups."""

import ast
import dataclasses
import inspect
import itertools
import shutil
import textwrap
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from memorax.catalog.algorithms import ALGORITHMS, algorithm_name

GROUPS = {
    "task": (
        *("environment", "environments", "environment_parameters", "return_ranges", "encoder"),
        *("show_episode_start", "previous_inputs", "imports"),
    ),
    "memory": (
        *("torso", "torsos", "memoryless_twin", "features", "num_layers", "memory_horizon"),
        *("head_features", "shared_memory", "policy_head", "value_head", "value_range"),
        "gradient_checkpointing",
    ),
    "search": ("search", "method", "num_trials", "trials_at_once", "prune"),
    "learning": (
        *("preset", "algorithm", "algorithms", "learning_rate", "recurrence_learning_rate_scale"),
        *("anneal_learning_rate", "max_gradient_norm"),
    ),
    **{f"learning by {name}": () for name in ALGORITHMS},
    "budget": ("total_steps", "num_seeds", "seed", "evaluation_episodes", "evaluation_steps"),
    "where results go": (
        *("run_folder", "comparison_folder", "sweep_folder", "resume", "loggers"),
        *("checkpoint_every", "keep_checkpoints", "on_write_error"),
    ),
    "devices and processes": (
        *("devices", "seed_devices", "coordinator", "num_processes", "process_id"),
    ),
    "options": (),
}
"""The groups of options in their order, with their fields; an algorithm's own have a group of their
own, and fields that none names are ``options``."""

COMMON = {
    *("environment", "environment_parameters", "environments", "torso", "torsos", "features"),
    *("preset", "algorithm", "algorithms", "learning_rate", "search", "method", "num_trials"),
    *("total_steps", "num_seeds", "run_folder", "comparison_folder", "sweep_folder", "resume"),
}
"""The fields of commands with many options that ``--help`` shows; ``--help-all`` shows the rest."""
FEW = 12
"""Options up to which ``--help`` shows all."""


@dataclass(frozen=True)
class Option:
    """An option of a command.

    Attributes:
        field: The field that it sets.
        flag: Its flag, or its name in capitals if it is given by its position.
        values: Its values, as the help shows them.
        help: Its description.
        default: Its default, as it is written on the command line; empty if there is none.
        algorithm: The algorithm that it belongs to, if any.
    """

    field: str
    flag: str
    values: str
    help: str
    default: str = ""
    algorithm: str = ""

    @property
    def positional(self) -> bool:
        """Whether it is given by its position, without a flag."""
        return not self.flag.startswith("-")

    @property
    def group(self) -> str:
        """Its group in the help."""
        if self.algorithm:
            return f"learning by {self.algorithm}"
        return next((name for name, fields in GROUPS.items() if self.field in fields), "options")


def options_of(kind: Any, prefix: str = "--", algorithm: str = "") -> Iterator[Option]:
    """Return the options of a dataclass, or of an instance and of those inside it.

    Args:
        kind: The dataclass, or an instance that holds the defaults.
        prefix: The prefix of each flag.
        algorithm: The algorithm whose configuration this is.
    """
    owner = kind if isinstance(kind, type) else type(kind)
    hints, helps = typing.get_type_hints(owner, include_extras=True), _field_docstrings(owner)
    for field in dataclasses.fields(owner):
        value = getattr(kind, field.name, dataclasses.MISSING)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            if field.name == "algorithm":
                yield from options_of(value, prefix, algorithm_name(value))
            elif field.name in ALGORITHMS:
                own = f"{prefix}{field.name.replace('_', '-')}."
                yield from options_of(value, own, field.name)
            else:
                yield from options_of(value, prefix)
            continue
        hint = hints[field.name]
        given = [part for part in getattr(hint, "__metadata__", ()) if hasattr(part, "help")]
        help_text = next((part.help for part in given if part.help), helps.get(field.name, ""))
        if tyro.conf.Positional in getattr(hint, "__metadata__", ()):
            yield Option(field.name, field.name.upper(), "", help_text)
            continue
        name = next((part.name for part in given if part.name), field.name)
        flag = f"{prefix}{name.replace('_', '-')}"
        values = _written(hint, field.name, prefix)
        yield Option(field.name, flag, values, help_text, _default(value), algorithm)


def help_text(
    program: str, kind: Any, everything: bool = False, taken: tuple[Option, ...] = ()
) -> str:
    """Return the help of a command.

    Args:
        program: The command, such as ``memorax train``.
        kind: The dataclass of its options, or an instance that holds the defaults.
        everything: Whether to show all options, where there are many.
        taken: Options that are no field of it.
    """
    options = [*taken, *options_of(kind)]
    width = min(max(shutil.get_terminal_size().columns, 40), 100)
    owner = kind if isinstance(kind, type) else type(kind)
    positional = [option for option in options if option.positional]
    some = len(options) > FEW and not everything
    shown = [option for option in options if not some or option.field in COMMON]
    words = " ".join(option.flag for option in positional)
    lines = [" ".join(filter(None, [f"usage: {program}", words, "[OPTIONS]"])), ""]
    for paragraph in inspect.cleandoc(owner.__doc__ or "").split("\n\n"):
        lines += [*_wrapped(paragraph, width), ""]
    for option in positional:
        lines += [*_described(option, width)]
    if positional:
        lines.append("")
    for group in GROUPS:
        inside = [option for option in shown if option.group == group and not option.positional]
        if inside:
            lines.append(f"{group}:")
            for option in inside:
                lines += _described(option, width)
            lines.append("")
    if some:
        lines += _wrapped(f"'{program} --help-all' lists all {len(options)} options.", width)
    return "\n".join(lines).rstrip()


def _described(option: Option, width: int) -> Iterator[str]:
    yield f"  {option.flag}{option.values}"
    default = f" Default: {option.default}." if option.default else ""
    yield from _wrapped(f"{option.help}{default}", width, indent="      ")


def _wrapped(text: str, width: int, indent: str = "") -> list[str]:
    return textwrap.wrap(
        " ".join(text.replace("``", "").split()),
        width,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


NAMES = {int: "N", float: "X", str: "NAME", Path: "PATH"}
"""Placeholders for the values of each type."""
OWN_NAMES = {
    "environment_parameters": " NAME=VALUE ...",
    "environments": " 'NAME NAME=VALUE ...' ...",
    "return_ranges": " LOW HIGH ...",
    "search": " OPTION=VALUES ...",
    "value_range": " LOW HIGH",
    "coordinator": " HOST:PORT",
    "shared_memory": " [True|False]",
    "imports": " MODULE",
}
"""Placeholders for the values of fields whose type does not say enough."""


def _written(hint: Any, field: str, prefix: str) -> str:
    """Return how the values of an option are written, after its flag."""
    if field in OWN_NAMES:
        return OWN_NAMES[field]
    if typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        parts = [part for part in typing.get_args(hint) if part is not types.NoneType]
        if len(parts) > 1:
            return " " + "|".join(_written(part, field, prefix).strip() for part in parts)
        (hint,) = parts
    if hint is bool:
        return f", {prefix}no-{field.replace('_', '-')}"
    if typing.get_origin(hint) is Literal:
        return f" {'|'.join(typing.get_args(hint))}"
    if typing.get_origin(hint) is tuple:
        return f" {NAMES[typing.get_args(hint)[0]]} ..."
    return f" {NAMES[hint]}"


def _default(value: Any) -> str:
    """Return a default as the command line takes it; the help text explains ``None``."""
    if value is None or value is dataclasses.MISSING or value == ():
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return " ".join(repr(part) if " " in str(part) else str(part) for part in value)
    return str(value)


def _field_docstrings(owner: type) -> dict[str, str]:
    """Return the docstring below each field of a dataclass and of what it inherits from."""
    found: dict[str, str] = {}
    for cls in reversed(owner.__mro__):
        if not dataclasses.is_dataclass(cls):
            continue
        try:
            source = inspect.getsource(cls)
        except OSError:  # Of a class that make_dataclass has made.
            continue
        (body,) = (
            node.body
            for node in ast.parse(textwrap.dedent(source)).body
            if isinstance(node, ast.ClassDef)
        )
        for field, text in itertools.pairwise(body):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
            ):
                found[field.target.id] = str(text.value.value)
    return found
