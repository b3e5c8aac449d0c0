"""Domains of the options that a sweep searches."""

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from memorax.experiments.run.config import TrainConfig
from memorax.validation import unknown_name

Values = Mapping[str, Any]
"""A trial's value of each searched option, by its flag without dashes."""

NOT_SEARCHED = "algorithm", "loggers", "memoryless_twin"
"""Options of a run that are the same in every trial."""


@dataclass(frozen=True)
class Choices:
    """Some values.

    Attributes:
        values: The values.
    """

    values: tuple[Any, ...]

    def draw(self, generator: np.random.Generator) -> Any:
        """Draw one, each as likely as the others."""
        return self.values[generator.integers(len(self.values))]


@dataclass(frozen=True)
class RealRange:
    """All numbers from ``low`` to ``high``.

    Attributes:
        low: The least.
        high: The greatest.
        logarithmic: Whether the logarithm is drawn uniformly, instead of the number.
    """

    low: float
    high: float
    logarithmic: bool

    def draw(self, generator: np.random.Generator) -> float:
        """Draw one."""
        if self.logarithmic:
            drawn = math.exp(generator.uniform(math.log(self.low), math.log(self.high)))
            # The exponential may round past the ends.
            return min(max(drawn, self.low), self.high)
        return float(generator.uniform(self.low, self.high))


@dataclass(frozen=True)
class WholeRange:
    """All integers from ``low`` to ``high``, both included.

    Attributes:
        low: The least.
        high: The greatest.
    """

    low: int
    high: int

    def draw(self, generator: np.random.Generator) -> int:
        """Draw one, each as likely as the others."""
        return int(generator.integers(self.low, self.high, endpoint=True))

    @property
    def values(self) -> range:
        """All of them."""
        return range(self.low, self.high + 1)


MOST_WHOLE = 2**53
"""Larger integers are not exact as floats."""
Domain = Choices | RealRange | WholeRange

_RANGES: dict[str, tuple[type, Callable[[Any, Any], Domain]]] = {
    "log": (float, lambda low, high: RealRange(low, high, logarithmic=True)),
    "uniform": (float, lambda low, high: RealRange(low, high, logarithmic=False)),
    "int": (int, WholeRange),
}


def parse_search(searches: Sequence[str], train: TrainConfig[Any]) -> dict[str, Domain]:
    """Return the domain of each option.

    Args:
        searches: One for each option: ``flag=log:LOW:HIGH``, ``flag=uniform:LOW:HIGH``,
            ``flag=int:LOW:HIGH`` or ``flag=value,value,...``.
        train: The settings that all trials share, which determine the options.

    Raises:
        ValueError: If there is no such option, or it cannot be that; the closest are named.
    """
    kinds = _kinds(train)
    space = {}
    for search in searches:
        flag, equals, text = search.partition("=")
        flag = flag.replace("_", "-")
        if not equals or not text:
            raise ValueError(f"search must be flag=range or flag=value,value,..., got {search!r}")
        if flag.replace("-", "_") in NOT_SEARCHED:
            raise ValueError(f"search: {flag} is the same in every trial")
        if flag not in kinds:
            raise ValueError(unknown_name("option to search", flag, kinds))
        if flag in space:
            raise ValueError(f"search must name an option once, got {flag} twice")
        space[flag] = _parse_domain(flag, kinds[flag], text)
    return space


def value_of(train: TrainConfig[Any], flag: str) -> Any:
    """Return an option's value in a configuration."""
    name = flag.replace("-", "_")
    return getattr(train if hasattr(train, name) else train.algorithm, name)


def with_values(train: TrainConfig[Any], values: Values) -> TrainConfig[Any]:
    """Return a configuration with some options changed.

    Raises:
        ValueError: If they cannot be that.
    """
    own, algorithm = {}, {}
    for flag, value in values.items():
        name = flag.replace("-", "_")
        (own if hasattr(train, name) else algorithm)[name] = value
    changed = dataclasses.replace(train.algorithm, **algorithm)
    return dataclasses.replace(train, algorithm=changed, **own)


def _kinds(train: TrainConfig[Any]) -> dict[str, Any]:
    """Return the type of every option by its flag."""
    hints = typing.get_type_hints(type(train)) | typing.get_type_hints(type(train.algorithm))
    names = [field.name for part in (train, train.algorithm) for field in dataclasses.fields(part)]
    return {name.replace("_", "-"): hints[name] for name in names if name not in NOT_SEARCHED}


def _parse_domain(flag: str, kind: Any, text: str) -> Domain:
    name, *ends = text.split(":")
    if name in _RANGES:
        return _parse_range(flag, kind, text, ends)
    values = tuple(_parse_value(flag, kind, value.strip()) for value in text.split(","))
    if len(set(values)) < len(values):
        raise ValueError(f"search: values of {flag} must differ from each other, got {text!r}")
    return Choices(values)


def _parse_range(flag: str, kind: Any, text: str, ends: list[str]) -> Domain:
    name = text.partition(":")[0]
    number, domain = _RANGES[name]
    if number not in _alternatives(kind):
        raise ValueError(f"search: {flag} takes {_words(kind)}, which {name}: does not draw")
    if len(ends) != 2:
        raise ValueError(f"search: a range is {name}:LOW:HIGH, got {flag}={text}")
    low, high = (_parse_value(flag, number, end) for end in ends)
    lowest = 0.0 if name == "log" else -math.inf
    highest = MOST_WHOLE if number is int else math.inf
    if not max(lowest, -highest) < low < high < highest:
        positive = " above 0" if name == "log" else ""
        raise ValueError(
            f"search: {flag} must go from a lower to a higher number{positive}, got {text}"
        )
    return domain(low, high)


def _alternatives(kind: Any) -> tuple[Any, ...]:
    union = typing.get_origin(kind) in (types.UnionType, typing.Union)
    return typing.get_args(kind) if union else (kind,)


def _parse_value(flag: str, kind: Any, text: str) -> Any:
    for alternative in _alternatives(kind):
        try:
            return _parse_as(alternative, text)
        except ValueError:
            continue
    raise ValueError(f"search: {flag} takes {_words(kind)}, got {text!r}")


def _parse_as(kind: Any, text: str) -> Any:
    if typing.get_origin(kind) is tuple:
        first, *others = typing.get_args(kind)
        words = text.split()
        parts = [first] * len(words) if others == [...] else [first, *others]
        return tuple(_parse_as(part, word) for part, word in zip(parts, words, strict=True))
    named = {bool: {"true": True, "false": False}, types.NoneType: {"none": None}}
    if kind in named:
        if text.lower() not in named[kind]:
            raise ValueError(text)
        return named[kind][text.lower()]
    return kind(text)


def _words(kind: Any) -> str:
    names = {int: "integers", float: "numbers", bool: "true or false", str: "names"}
    names |= {types.NoneType: "none"}
    return " or ".join(names.get(part, "words in quotes") for part in _alternatives(kind))
