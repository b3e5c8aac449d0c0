"""Hyperparameters as arguments of a program, so that trials that differ in them share it."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from memorax.algorithms import Algorithm
from memorax.experiments.run.agents import make_agent
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.schedules import fit_schedules
from memorax.experiments.study.search_space import value_of

OPTIMIZER_HYPERPARAMETERS = "learning_rate", "max_gradient_norm"
"""Fields of a run that are leaves of its pytree, beside the algorithm's own hyperparameters: one
program can take them as arguments."""
_LEAVES = "algorithm", *OPTIMIZER_HYPERPARAMETERS
_STATIC = tuple(item.name for item in dataclasses.fields(TrainConfig) if item.name not in _LEAVES)


def _flatten_with_keys(config: TrainConfig[Any]) -> tuple[Any, Any]:
    keyed = [(jax.tree_util.GetAttrKey(name), getattr(config, name)) for name in _LEAVES]
    return keyed, tuple(getattr(config, name) for name in _STATIC)


def _unflatten(static: Any, leaves: Any) -> TrainConfig[Any]:
    # Past __post_init__, as ``memorax.algorithms.configurations`` does: leaves may be tracers.
    config = object.__new__(TrainConfig)
    for name, value in zip([*_LEAVES, *_STATIC], [*leaves, *static], strict=True):
        object.__setattr__(config, name, value)
    return config


jax.tree_util.register_pytree_with_keys(TrainConfig, _flatten_with_keys, _unflatten)

Numbers = Mapping[str, Float[Array, "..."]]
"""Hyperparameters by flag."""


def traceable(config: TrainConfig[Any], flags: Iterable[str]) -> tuple[str, ...]:
    """Return those flags that one program can take as arguments.

    These are the hyperparameters that a configuration declares as leaves of its pytree, such as
    ``gamma``. All others, such as sizes, and those that are ``None``, are part of the program.
    """
    leaves = {_flag(path) for path, _ in jax.tree_util.tree_leaves_with_path(config)}
    return tuple(flag for flag in flags if flag in leaves)


def numbers_of(configs: Sequence[TrainConfig[Any]], flags: Iterable[str]) -> Numbers:
    """Return the values of some flags in some configurations, (configs,) each."""
    return {
        flag: jnp.asarray([value_of(config, flag) for config in configs], jnp.float32)
        for flag in flags
    }


def agent_with(config: TrainConfig[Any], numbers: Numbers) -> Algorithm:
    """Return a run's agent with other values, which may be tracers, for some hyperparameters.

    With tracers, the agent is only good inside the function that they are arguments of.
    """
    config = dataclasses.replace(config, algorithm=fit_schedules(config)[0])
    return make_agent(_replaced(config, numbers.get), config.torso)


def program_key(config: TrainConfig[Any], flags: Sequence[str]) -> TrainConfig[Any]:
    """Return the same key for configurations that one program can run.

    They differ at most in the seed, which only draws random numbers, and in some flags.
    """
    config = dataclasses.replace(config, seed=0)
    return _replaced(config, lambda flag, value: 0.0 if flag in flags else value)


def _replaced(config: TrainConfig[Any], value_for: Callable[[str, Any], Any]) -> TrainConfig[Any]:
    return jax.tree_util.tree_map_with_path(
        lambda path, value: value_for(_flag(path), value), config
    )


def _flag(path: Any) -> str:
    return path[-1].name.replace("_", "-")
