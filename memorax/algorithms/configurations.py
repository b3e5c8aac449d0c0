"""Configurations as pytrees, whose real numbers JAX can map over."""

import dataclasses
import typing
from typing import Any, TypeVar

import jax

Config = TypeVar("Config")


def hyperparameters(cls: type[Config]) -> type[Config]:
    """Register a configuration as a pytree, whose leaves are the fields that are real numbers.

    So ``gamma`` may be an argument of ``jax.jit`` or ``jax.vmap``, while sizes, switches and what
    is ``None`` are part of the program.

    Args:
        cls: A frozen dataclass; fields annotated ``float`` or ``float | None`` become leaves.
    """
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(typing.cast(Any, cls))]
    real = [name for name in names if hints[name] in (float, float | None)]
    static = [name for name in names if name not in real]

    def flatten_with_keys(config):
        keyed = [(jax.tree_util.GetAttrKey(name), getattr(config, name)) for name in real]
        return keyed, tuple(getattr(config, name) for name in static)

    def unflatten(structure, leaves):
        # Past __post_init__: JAX rebuilds pytrees with shapes, axes or tracers in their leaves.
        config = object.__new__(cls)
        values = zip([*real, *static], [*leaves, *structure], strict=True)
        for name, value in values:
            object.__setattr__(config, name, value)
        return config

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten)
    return cls
