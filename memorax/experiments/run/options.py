"""Types of options that tyro has no own form for."""

from typing import Annotated

from tyro.constructors import PrimitiveConstructorSpec

_WORDS = {"true": True, "false": False, "none": None}


def _parse(words: list[str]) -> bool | None:
    if not words:
        return True
    if words[0].lower() not in _WORDS:
        raise ValueError(f"must be True or False, got {words[0]!r}")
    return _WORDS[words[0].lower()]


OptionalFlag = Annotated[
    bool | None,
    PrimitiveConstructorSpec(
        nargs=(0, 1),
        metavar="[True|False]",
        instance_from_str=_parse,
        is_instance=lambda value: value is None or isinstance(value, bool),
        str_from_instance=lambda value: [str(value)],
    ),
]
"""A flag that may be left open: ``--flag`` is True, ``--flag False`` is False, without it None."""
