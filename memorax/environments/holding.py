"""States that can skip a step."""

import dataclasses
from typing import Any

import jax
from jaxtyping import Array, PyTree


class Holdable:
    """The base class of states with a field ``held``: a bool, whether the next step is ignored.

    A step in pure JAX can be computed and forgotten. One in a process cannot be taken back, and one
    that enters the statistics of all copies has changed those of the others.
    """

    held: Any


def hold(state: PyTree, held: Array) -> PyTree:
    """Return an environment's state whose next step does not count where ``held``.

    Args:
        state: The state of an environment, whatever is wrapped around it.
        held: bool.
    """

    def mark(node):
        if not isinstance(node, Holdable):
            return node
        state: Any = node
        names = [field.name for field in dataclasses.fields(state)]
        inner = {name: hold(getattr(state, name), held) for name in names}
        return dataclasses.replace(state, **inner | {"held": held})

    return jax.tree.map(mark, state, is_leaf=lambda node: isinstance(node, Holdable))
