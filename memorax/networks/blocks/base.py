"""The base class of blocks."""

import dataclasses
import itertools
from typing import Any, ClassVar

import flax.linen as nn
import jax
from jaxtyping import Array, Bool, Float

from memorax.networks.sequence_models.base import (
    Carry,
    SequenceModel,
    check_sequence_model,
    checked_carry,
    checked_inputs,
    initialize_carry,
)
from memorax.networks.sequence_models.sensitivities import without_exact_gradient


class Block(SequenceModel):
    """A sequence model around others, whose carries are its carry.

    It wraps any sequence model or plain module. A subclass implements ``read``.
    """

    wrapped: ClassVar[str] = "module"
    """The field with the wrapped model, or the tuple of wrapped models."""

    def __post_init__(self):
        """Check the wrapped model."""
        wrapped = getattr(self, self.wrapped)
        if isinstance(wrapped, tuple):
            for place, model in enumerate(wrapped):
                check_sequence_model(f"{type(self).__name__}.{self.wrapped}[{place}]", model)
        else:
            check_sequence_model(f"{type(self).__name__}.{self.wrapped}", wrapped)
        super().__post_init__()

    def __call__(
        self,
        inputs: Float[Array, "batch time features"],
        done: Bool[Array, "batch time"] | None = None,
        initial_carry: Carry | None = None,
    ) -> tuple[Carry, Float[Array, "batch time features_out"]]:
        """Read a chunk of a sequence; see ``SequenceModel``."""
        inputs, done = checked_inputs(self, inputs, done)
        return self.read(inputs, done, checked_carry(self, initial_carry, inputs))

    def read(
        self,
        inputs: Float[Array, "batch time features"],
        done: Bool[Array, "batch time"],
        carry: Carry,
    ) -> tuple[Carry, Float[Array, "batch time features_out"]]:
        """Read a chunk of a sequence that has been checked; everything is given."""
        raise NotImplementedError(f"{type(self).__name__} must implement read")

    @nn.nowrap
    def initialize_carry(self, key: Array, input_shape: tuple[int, ...]) -> Carry:
        """Return the carry of the wrapped model, or the tuple of those of several.

        All get the same key, as they do where an episode begins.
        """
        wrapped = getattr(self, self.wrapped)
        if isinstance(wrapped, tuple):
            return tuple(initialize_carry(model, key, input_shape) for model in wrapped)
        return initialize_carry(wrapped, key, input_shape)

    @nn.nowrap
    def without_exact_gradient(self) -> tuple[str, ...]:
        """Return those of all wrapped models; see ``SequenceModel``."""
        wrapped = getattr(self, self.wrapped)
        models = wrapped if isinstance(wrapped, tuple) else (wrapped,)
        return tuple(itertools.chain.from_iterable(map(without_exact_gradient, models)))


def unshared(modules: Any) -> Any:
    """Return deep copies of modules that share no parameters.

    Flax gives a module instance that appears twice one set of parameters, and ``clone``
    copies the outermost module alone. Instances that occur twice within ``modules`` stay one.
    """
    copies = {}

    def copy(module):
        if not isinstance(module, nn.Module):
            return module
        if id(module) not in copies:
            fields = {
                field.name: copy_all(getattr(module, field.name))
                for field in dataclasses.fields(module)
                if field.init and field.name not in ("parent", "name")
            }
            copies[id(module)] = type(module)(**fields, parent=None)
        return copies[id(module)]

    def copy_all(tree):
        return jax.tree.map(copy, tree, is_leaf=lambda node: isinstance(node, nn.Module))

    return copy_all(modules)
