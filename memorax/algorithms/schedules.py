"""Steps that the schedules of an optimizer count."""

import jax
import optax
from jaxtyping import PyTree


def count_skipped_step(optimizer_state: PyTree) -> PyTree:
    """Return an optimizer's state after a step that was not made, which its schedules count.

    A schedule over all steps of a run would else not come to its end if some are skipped. Nothing
    else of the state changes, such as averages of gradients and how many are in them.

    Args:
        optimizer_state: The state of an Optax optimizer, with a schedule in it or without.
    """

    def is_schedule(node):
        return isinstance(node, optax.ScaleByScheduleState)

    def count(node):
        if is_schedule(node):
            return optax.ScaleByScheduleState(optax.safe_increment(node.count))
        return node

    return jax.tree.map(count, optimizer_state, is_leaf=is_schedule)
