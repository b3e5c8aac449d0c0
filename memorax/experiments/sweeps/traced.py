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
from memorax.experiments.agents import make_agent
from memorax.experiments.config import TrainConfig
from memorax.experiments.sweeps.search_space import value_of

Numbers = Mapping[str, Float[Array, "..."]]
"""Real numbers by flag."""


def numbers_of(configs: Sequence[TrainConfig[Any]], flags: Iterable[str]) -> Numbers:
    """Return what each of some runs has for some flags, (runs,) each."""
    return {
        flag: jnp.asarray([value_of(config, flag) for config in configs], jnp.float32)
        for flag in flags
    }


def agent_with(config: TrainConfig[Any], numbers: Numbers) -> Algorithm:
    """Return a run's agent, with numbers that need not be known yet in the place of its own.

    The agent is only good inside the function that the numbers are arguments of.
    """
    traced = copy.copy(config)
    algorithm = copy.copy(config.algorithm)
    # Past __post_init__, which cannot check what is not known. The configuration of every trial has
    # been checked with its own numbers.
    object.__setattr__(traced, "algorithm", algorithm)
    for flag, number in numbers.items():
        name = flag.replace("-", "_")
        object.__setattr__(traced if hasattr(config, name) else algorithm, name, number)
    return make_agent(traced, config.torso)


def traceable(config: TrainConfig[Any], flags: Iterable[str]) -> tuple[str, ...]:
    """Return those flags whose numbers one program can take as arguments.

    Others, such as whole numbers and what an algorithm decides by which program to run, are part of
    the program.
    """
    real = tuple(flag for flag in flags if isinstance(value_of(config, flag), float))
    if _traces(config, real):
        return real
    return tuple(flag for flag in real if _traces(config, (flag,)))


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


def _traces(config: TrainConfig[Any], flags: tuple[str, ...]) -> bool:
    def train(numbers, key):
        agent = agent_with(config, numbers)
        state = agent.init(key)
        return agent.train(key, state, agent.steps_per_update)

    numbers = {flag: jax.ShapeDtypeStruct((), jnp.float32) for flag in flags}
    try:
        jax.eval_shape(train, numbers, jax.random.key(0))
    except (TypeError, ValueError):
        # So JAX, and checks of a number's range, say that a number has to be known.
        return False
    return True
