"""A scan with any associative operator, restarted at each episode."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree


def associative_scan(
    binary_operator: Callable[[PyTree, PyTree], PyTree],
    elements: PyTree,
    done: Bool[Array, "batch time"],
    initial: PyTree,
) -> tuple[PyTree, PyTree]:
    """Combine each element with all those before it in its episode, in parallel over time.

    With h the state before the step, and no state at all where ``done``::

        h' = binary_operator(h, element)

    Args:
        binary_operator: An associative function of two trees of arrays ``(batch, time, ...)``,
            which returns one: ``f(f(a, b), c) == f(a, f(b, c))``. The earlier one is the first.
        elements: The steps, each array ``(batch, time, ...)``.
        done: True where an element is the first of a new episode.
        initial: h before the first step, each array ``(batch, ...)``: what stands for all that
            was read before, or the operator's identity.

    Returns:
        The last state and the state after each step. Where ``done``, the state is the element
        itself: an operator whose identity is not neutral to elements has no place here.

    Raises:
        ValueError: If the trees or their shapes do not fit.

    Source: Blelloch 1990, "Prefix sums and their applications", section 1.5 (segmented scans).
    """
    _check(elements, done, initial)
    sequence = jax.tree.map(
        lambda first, rest: jnp.concatenate([first[:, None].astype(rest.dtype), rest], axis=1),
        initial,
        elements,
    )
    starts = jnp.concatenate([jnp.zeros_like(done[:, :1]), done], axis=1)

    def combine(earlier, later):
        (before, starts), (after, restarts) = earlier, later
        # What is not combined is not computed with either: a NaN of the episode before would
        # reach the gradient.
        before = _where(restarts, after, before)
        combined = _where(restarts, after, binary_operator(before, after))
        return combined, starts | restarts

    states, _ = jax.lax.associative_scan(combine, (sequence, starts), axis=1)
    return (
        jax.tree.map(lambda leaf: leaf[:, -1], states),
        jax.tree.map(lambda leaf: leaf[:, 1:], states),
    )


def _check(elements, done, initial):
    if jax.tree.structure(elements) != jax.tree.structure(initial):
        raise ValueError(
            f"associative_scan: initial must have the structure {jax.tree.structure(elements)} of "
            f"the elements, got {jax.tree.structure(initial)}"
        )
    batch, time = done.shape
    for element, first in zip(jax.tree.leaves(elements), jax.tree.leaves(initial), strict=True):
        if element.shape[:2] != (batch, time) or time == 0:
            raise ValueError(
                "associative_scan: elements must lead with at least one step (batch, time) of "
                f"done, {done.shape}, got {element.shape}"
            )
        if first.shape != (batch, *element.shape[2:]):
            raise ValueError(
                f"associative_scan: initial must have shape {(batch, *element.shape[2:])}, "
                f"got {first.shape}"
            )


def _where(done, one, other):
    def choose(one, other):
        return jnp.where(done.reshape(done.shape + (1,) * (one.ndim - 2)), one, other)

    return jax.tree.map(choose, one, other)
