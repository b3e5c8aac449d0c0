"""The exact gradient of a memory, carried beside its state while an agent acts.

A cell whose units do not read each other's state has two methods, both pure functions of arrays:

- ``unit_parameters(params)`` returns what the recurrence depends on, computed from the cell's
  parameters: a pytree of arrays whose last axes are those of the units.
- ``unit_step(parameters, state, inputs)`` is the recurrence for one row, without a batch.

``RNN`` and ``Memoroid`` then carry the derivative of the state by the parameters in the collection
``"sensitivities"``, if that is mutable, and gradients of a single step reach all steps of the
episode. The cell has no other carry than the state.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from memorax import ops
from memorax.networks.sequence_models.base import Carry, fresh_carry, is_sequence_model

SENSITIVITIES = "sensitivities"
"""The collection of variables that holds them, by the path of each memory."""


def carry_with_history(
    model: nn.Module,
    cell: Any,
    inputs: Float[Array, "batch time features"],
    done: Bool[Array, "batch time"],
    carry: Carry,
) -> Carry:
    """Return a carry whose derivative by the cell's parameters is that of the whole episode.

    The sensitivity moves on by the step that is read. Nothing happens unless the collection is
    mutable and the cell has the methods.

    Args:
        model: The module that runs the cell and holds its sensitivity.
        cell: The cell.
        inputs: One step.
        done: True where it is the first of a new episode.
        carry: The carry before it.

    Raises:
        ValueError: If there is more than one step.
    """
    if (
        not has_exact_gradient(cell)
        or model.is_initializing()
        or not model.is_mutable_collection(SENSITIVITIES)
    ):
        return carry
    if inputs.shape[1] != 1:
        raise ValueError(
            f"{type(model).__name__}: sensitivities move on by one step at a time, got "
            f"{inputs.shape[1]} steps"
        )
    parameters = cell.unit_parameters(cell.variables["params"])
    sensitivity = model.get_variable(SENSITIVITIES, "sensitivity")
    if sensitivity is None:
        sensitivity = ops.zero_sensitivity(parameters, carry)
    sensitivity = ops.reset_sensitivity(sensitivity, done[:, 0])
    fresh = fresh_carry(cell, (inputs.shape[0], inputs.shape[-1]))
    begun = jax.tree.map(
        lambda new, old: jnp.where(done.reshape(-1, *(1,) * (old.ndim - 1)), new, old), fresh, carry
    )
    following = ops.next_sensitivity(
        cell.unit_step, *jax.lax.stop_gradient((parameters, begun, inputs[:, 0], sensitivity))
    )
    model.put_variable(SENSITIVITIES, "sensitivity", following)
    return ops.state_with_history(carry, parameters, sensitivity)


def has_exact_gradient(cell: Any) -> bool:
    """Return whether a cell's gradient can be carried beside its state at the parameters' size."""
    return hasattr(cell, "unit_step")


def without_exact_gradient(model: Any) -> tuple[str, ...]:
    """Return the names of a model's memories whose gradient cannot be carried beside the state.

    Args:
        model: A sequence model or a plain module.
    """
    return tuple(dict.fromkeys(model.without_exact_gradient())) if is_sequence_model(model) else ()


def zero_sensitivities(model: nn.Module, *args: Any, **kwargs: Any) -> PyTree:
    """Return the collection at an episode's start, zeros; empty if no memory has sensitivities.

    Args:
        model: A network or sequence model.
        args: The arguments of its ``apply``.
        kwargs: As well.
    """

    def apply():
        return model.apply(*args, **kwargs, mutable=[SENSITIVITIES])[1]

    variables = jax.eval_shape(apply).get(SENSITIVITIES, {})
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), variables)
