"""Reading dataclasses from untrusted JSON."""

import contextlib
import csv
import dataclasses
import json
import math
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

MOST_BYTES = 65_536
MOST_CHARACTERS = 1_000
MOST_PROBLEMS = 20
LARGEST = 2**63 - 1

UNREADABLE = (
    *(ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError),
    *(OSError, csv.Error),
)
"""The exceptions that parsing a file with unexpected contents raises."""

Kind = TypeVar("Kind")


class UnreadableError(ValueError):
    """A file cannot be read; the message names it and the reason."""


@contextlib.contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Re-raise any parsing error as ``UnreadableError`` naming the file.

    Args:
        path: The file.
        what: The kind of contents, for the message.

    Raises:
        UnreadableError: If what is read in this context cannot be.
    """
    try:
        yield
    except UNREADABLE as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise UnreadableError(f"{path} holds no {what}: {reason}") from error


def read_json(path: Path) -> Any:
    """Return the contents of a file of JSON.

    Raises:
        ValueError: If the file is larger than a configuration can be, no JSON, nested too deeply,
            or has a non-finite number or a duplicate name.
    """
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"it may have {MOST_BYTES:,} bytes at most, and has {size:,}")
    text = path.read_bytes().decode()
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def from_fields(kind: type[Kind], fields: Any, kinds: Mapping[str, type] | None = None) -> Kind:
    """Return a dataclass with exactly the fields given, each of the type that it declares.

    Args:
        kind: The dataclass; its fields are numbers, strings, literals, tuples or dataclasses of
            those, or ``None``.
        fields: Their values in JSON, an object.
        kinds: The types of fields whose declared ones leave them open.

    Raises:
        ValueError: If fields are missing, unknown or of another type, all of which are listed by
            their paths; or as ``kind`` itself.
    """
    if not isinstance(fields, dict):
        raise ValueError(f"{kind.__name__} must be an object, got {_shown(fields)}")
    hints = get_type_hints(kind) | dict(kinds or {})
    problems = list(_problems(kind, fields, hints))
    if different := sorted(words for words, mistaken in problems if not mistaken):
        raise ValueError(f"it does not fit this version of memorax: {_first(different)}")
    if mistakes := [words for words, mistaken in problems if mistaken]:
        raise ValueError(_first(mistakes))
    return kind(**{name: _read(hints[name], value, name) for name, value in fields.items()})


def _first(sentences: list[str]) -> str:
    more = [f"and {len(sentences) - MOST_PROBLEMS} more"] if len(sentences) > MOST_PROBLEMS else []
    return "; ".join([*sentences[:MOST_PROBLEMS], *more])


def _problems(
    kind: Any, fields: dict[str, Any], hints: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, bool]]:
    """Describe each field that is missing, unknown or, which is a mistake, of another type."""
    declared = {field.name: field for field in dataclasses.fields(kind)}
    for name, field in declared.items():
        hint, path = hints[name], f"{prefix}{name}"
        if name not in fields:
            yield f"{path}: missing{_describe_default(field)}", False
        elif dataclasses.is_dataclass(hint) and isinstance(fields[name], dict):
            yield from _problems(hint, fields[name], get_type_hints(hint), f"{path}/")
        else:
            try:
                _read(hint, fields[name], path)
            except ValueError as error:
                yield str(error), True
    for name in fields.keys() - declared:
        shown = name if name.isidentifier() else _shown(name)
        yield f"{prefix}{shown[:80]}: unexpected, the file has {_shown(fields[name])}", False


def _describe_default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return f", its default is {_shown(field.default)}"
    if field.default_factory is not dataclasses.MISSING:
        return f", its default is {_shown(field.default_factory())}"
    return ""


def _read(declared: Any, value: Any, name: str) -> Any:
    """Return a value as the type that is declared for it."""
    origin, arguments = get_origin(declared), get_args(declared)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        (declared,) = (argument for argument in arguments if argument is not type(None))
        return _read(declared, value, name)
    if origin is tuple:
        return _read_tuple(arguments, value, name)
    if dataclasses.is_dataclass(declared) and isinstance(declared, type):
        return from_fields(declared, value)
    if origin is Literal:
        allowed, described = value in arguments, f"one of {', '.join(map(str, arguments))}"
    else:
        check, described = _SCALARS[declared]
        allowed = check(value)
    if not allowed:
        raise ValueError(f"{name} must be {described}, got {_shown(value)}")
    return float(value) if declared is float else value


def _read_tuple(arguments: tuple[Any, ...], value: Any, name: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{name} must be a list, got {_shown(value)}")
    if arguments[-1] is Ellipsis:
        arguments = arguments[:1] * len(value)
    elif len(value) != len(arguments):
        raise ValueError(f"{name} must be a list of {len(arguments)}, got {len(value)}")
    return tuple(map(lambda declared, part: _read(declared, part, name), arguments, value))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST


def _is_number(value: Any) -> bool:
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MOST_CHARACTERS and value.isprintable()


_SCALARS = {
    bool: (lambda value: isinstance(value, bool), "true or false"),
    int: (_is_whole, "an integer of 64 bits"),
    float: (_is_number, "a number"),
    str: (_is_text, f"a text of at most {MOST_CHARACTERS:,} characters that can be printed"),
}
"""What each type takes, and its description."""


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{_shown(name)} occurs twice")
        found[name] = value
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a finite number")


def differences(old: Any, new: Any, prefix: str = "") -> Iterator[str]:
    """Describe each field that differs between two configurations."""
    for field in dataclasses.fields(old):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if dataclasses.is_dataclass(before):
            yield from differences(before, after, f"{prefix}{field.name}.")
        elif before != after:
            yield f"{prefix}{field.name} is {before!r}, got {after!r}"
