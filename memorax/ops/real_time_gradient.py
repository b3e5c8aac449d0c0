"""Real-time recurrent gradients of recurrences whose units do not read each other's state.

With h_i the numbers of unit i's state, phi_i the parameters that belong to this unit alone, and x
an input that all units may read::

    h_i' = step(phi_i, h_i, x)
    S_i' = dstep/dh_i S_i + dstep/dphi_i

S, the sensitivity, is the derivative of the state by the parameters through all steps of the
episode. Since no unit reads another, it has the size of the parameters times the numbers of a
unit's state (1, or 2 for a complex one), whatever the number of units and however long the episode.

Source: Williams and Zipser 1989, "A Learning Algorithm for Continually Running Fully Recurrent
Neural Networks"; Elelimy et al. 2024, arXiv 2409.01449, section 3, for such units.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree

UnitStep = Callable[[PyTree, PyTree, Array], PyTree]
"""From the units' parameters, states and an input, all without a batch, to the next states."""


def zero_sensitivity(parameters: PyTree, state: PyTree) -> tuple[PyTree, ...]:
    """Return the sensitivity at an episode's start, zeros.

    Args:
        parameters: phi, a pytree whose leaves end in the axes of the units: ``(*any, *units)``.
        state: h, a pytree of arrays ``(batch, *units)``.

    Returns:
        A tree like ``parameters`` for each array of the state, its leaves
        ``(batch, *any, *units)``.
    """

    def zeros(h):
        def like(leaf):
            return jnp.zeros((h.shape[0], *leaf.shape), h.dtype)

        return jax.tree.map(like, parameters)

    return tuple(map(zeros, jax.tree.leaves(state)))


def next_sensitivity(
    step: UnitStep,
    parameters: PyTree,
    state: PyTree,
    inputs: Array,
    sensitivity: tuple[PyTree, ...],
) -> tuple[PyTree, ...]:
    """Return the sensitivity of the state after a step.

    Args:
        step: The recurrence.
        parameters: phi, as in ``zero_sensitivity``.
        state: h before the step, ``(batch, *units)``.
        inputs: x, ``(batch, features)``.
        sensitivity: That of the state before the step.
    """
    units = {h.shape[1:] for h in jax.tree.leaves(state)}
    parameters = jax.tree.map(
        lambda leaf: _computed_once(leaf[None])[0] if leaf.shape in units else leaf, parameters
    )
    inputs = _computed_once(inputs)

    def of_row(state, inputs, sensitivity):
        leaves, structure = jax.tree.flatten(state)

        def advance(parameters, leaves):
            return jax.tree.leaves(step(parameters, jax.tree.unflatten(structure, leaves), inputs))

        following, pull_back = jax.vjp(advance, parameters, leaves)

        def of_number(place):
            """Return the derivatives of one number of every unit's state."""
            # A sum over units has each unit's own derivative by its own parameters and state.
            chosen = [jnp.full_like(h, place == other) for other, h in enumerate(following)]
            by_parameters, by_state = pull_back(chosen)

            def total(new, *old):
                return new + sum(map(jnp.multiply, by_state, old))

            return jax.tree.map(total, by_parameters, *sensitivity)

        return tuple(map(of_number, range(len(leaves))))

    return jax.vmap(of_row)(state, inputs, sensitivity)


def reset_sensitivity(
    sensitivity: tuple[PyTree, ...], done: Bool[Array, "batch"]
) -> tuple[PyTree, ...]:
    """Return the sensitivity with that of the rows whose episode begins set to zero."""

    def reset(leaf):
        return jnp.where(done.reshape(-1, *(1,) * (leaf.ndim - 1)), 0, leaf)

    return jax.tree.map(reset, sensitivity)


@jax.custom_vjp
def state_with_history(
    state: PyTree, parameters: PyTree, sensitivity: tuple[PyTree, ...]
) -> PyTree:
    """Return the state, whose derivative by the parameters is the sensitivity.

    Reverse mode only.

    Args:
        state: h, ``(batch, *units)``.
        parameters: phi, as in ``zero_sensitivity``.
        sensitivity: The derivative of h by phi.
    """
    del parameters, sensitivity
    return state


def _forward(state, parameters, sensitivity):
    del parameters
    return state, sensitivity


def _backward(sensitivity: Any, gradient: Any):
    gradients = [_computed_once(to_state) for to_state in jax.tree.leaves(gradient)]

    def by_parameter(*terms):
        total = 0
        for to_state, term in zip(gradients, terms, strict=True):
            between = (1,) * (term.ndim - to_state.ndim)
            total += (
                to_state.reshape(to_state.shape[0], *between, *to_state.shape[1:]) * term
            ).sum(0)
        return total

    return gradient, jax.tree.map(by_parameter, *sensitivity), None


def _computed_once(values: Array) -> Array:
    """Return values, ``(batch, ...)``, unchanged, but computed apart from what reads them.

    XLA fuses what computes a vector, sines and norms included, into the loops over matrices that
    read it, and computes it again for each number there: a step took ten times as long. It fuses no
    product of matrices.
    """
    rows = values.reshape(values.shape[0], -1)
    identity = jnp.eye(rows.shape[1], dtype=rows.dtype)
    return jnp.matmul(rows, identity, precision=jax.lax.Precision.HIGHEST).reshape(values.shape)


state_with_history.defvjp(_forward, _backward)
