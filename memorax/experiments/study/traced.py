"""Configurations some of whose numbers are known only when a program runs."""

import copy
import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from memorax.algorithms import Algorithm
from memorax.experiments.run.agents import make_agent
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.study.search_space import value_of

Numbers = Mapping[str, Float[Array, "..."]]
"""Real numbers by flag."""

OPTIMIZER_NUMBERS = {"learning_rate", "max_gradient_norm"}
"""Options of a run that ``make_agent`` hands to the optimizer, which takes tracers."""


def numbers_of(configs: Sequence[TrainConfig[Any]], flags: Iterable[str]) -> Numbers:
    """Return what each of some runs has for some flags, (runs,) each."""
    return {
        flag: jnp.asarray([value_of(config, flag) for config in configs], jnp.float32)
        for flag in flags
    }


def agent_with(config: TrainConfig[Any], numbers: Numbers) -> Algorithm:
    """Return a run's agent, with numbers that may be tracers in the place of its own.

    With tracers, the agent is only good inside the function that they are arguments of.
    """
    named = {flag.replace("-", "_"): number for flag, number in numbers.items()}
    algorithm = jax.tree_util.tree_map_with_path(
        lambda path, value: named.get(path[0].name, value), config.algorithm
    )
    traced = copy.copy(config)
    # Past __post_init__, which has checked every trial's own numbers.
    for name, value in (named | {"algorithm": algorithm}).items():
        if hasattr(config, name):
            object.__setattr__(traced, name, value)
    return make_agent(traced, config.torso)


def traceable(config: TrainConfig[Any], flags: Iterable[str]) -> tuple[str, ...]:
    """Return those flags whose numbers one program can take as arguments.

    These are the hyperparameters of the algorithm and of its optimizer. All others are part of the
    program, such as sizes, and a number that is ``None``.
    """
    leaves = jax.tree_util.tree_leaves_with_path(config.algorithm)
    names = {path[0].name for path, _ in leaves} | OPTIMIZER_NUMBERS
    return tuple(flag for flag in flags if flag.replace("-", "_") in names)


def program_key(config: TrainConfig[Any], flags: Iterable[str]) -> str:
    """Return the same text for configurations that can run in one program.

    That is all but the seed, which only draws random numbers, and the numbers of some flags.
    """
    fields = dataclasses.asdict(config)
    del fields["seed"]
    for flag in flags:
        name = flag.replace("-", "_")
        part = fields if hasattr(config, name) else fields["algorithm"]
        if part[name] is not None:
            part[name] = "a number"
    return json.dumps(fields)
