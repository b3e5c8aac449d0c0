"""Calls of the host from compiled programs."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jax.experimental import io_callback


def mappable(
    host: Callable[..., Any], results: Sequence[tuple[tuple[int, ...], Any]]
) -> Callable[..., Any]:
    """Return a function that calls ``host`` once for all mapped copies.

    Args:
        host: Takes and returns numpy arrays that lead with the mapped axes. Its first argument
            is a scalar for a single copy.
        results: Shape and dtype of all that it returns for a single copy.
    """

    @custom_vmap
    def call(*arguments):
        batch = jnp.shape(arguments[0])
        shapes = [jax.ShapeDtypeStruct((*batch, *shape), dtype) for shape, dtype in results]
        return io_callback(lambda *arrays: host(*map(np.asarray, arrays)), shapes, *arguments)

    @call.def_vmap
    def call_for_all(axis_size, in_batched, *arguments):
        arguments = (
            argument if batched else jnp.broadcast_to(argument, (axis_size, *jnp.shape(argument)))
            for argument, batched in zip(arguments, in_batched, strict=True)
        )
        return call(*arguments), [True] * len(results)

    return call
