"""From a configuration back to the command line that gives it."""

import dataclasses
import shlex
from collections.abc import Iterator
from typing import Any

from memorax.catalog.algorithms import DEFAULT_ALGORITHM
from memorax.experiments.run.config import TrainConfig


def train_command(config: TrainConfig[Any]) -> str:
    """Return the command that trains with a configuration."""
    default = TrainConfig(algorithm=type(config.algorithm)())
    return " ".join(["memorax train", *set_options(config, default)])


def set_options(config: TrainConfig[Any], default: TrainConfig[Any]) -> Iterator[str]:
    """Return the options of a configuration that are not as in another of the same algorithm."""
    if config.algorithm_name != DEFAULT_ALGORITHM:
        yield f"--algorithm {config.algorithm_name}"
    for mine, plain in ((config, default), (config.algorithm, default.algorithm)):
        for field in dataclasses.fields(mine):
            value, before = getattr(mine, field.name), getattr(plain, field.name)
            if value != before and field.name != "algorithm":
                if field.name == "imports":
                    yield from (f"--import {module}" for module in value)
                    continue
                yield _option(field.name.replace("_", "-"), value, before)


def _option(flag: str, value: Any, before: Any) -> str:
    if isinstance(value, bool) and isinstance(before, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    values = value if isinstance(value, tuple) else (value,)
    return shlex.join([f"--{flag}", *map(str, values)])
