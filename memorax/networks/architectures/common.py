"""What architectures share: the residual stack, and step sizes for a memory horizon."""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn

from memorax.networks.blocks import PreNorm, Projection, Residual, Stack
from memorax.validation import check_between

LONGEST_MEMORY_BY_STEPS = 10_000.0
"""Steps, of a memory whose decays have a step size, for the least that a configuration takes."""

LARGEST_PHASE = math.pi / 2
"""Of a diagonal state at first: large enough to tell the last few inputs apart, small enough that
some states hardly turn over a long memory. With pi / 10, the LRU authors' for their longest task,
two layers of LRU failed RepeatPrevious; with all phases they learned RepeatFirst last."""


def steps_for(
    name: str, memory_horizon: int | float | None, least_decay: float
) -> dict[str, float]:
    """Return the step sizes with which the longest state lasts ``memory_horizon`` steps.

    ``None`` returns none, and the configuration keeps its own.
    """
    if memory_horizon is None:
        return {}
    check_between(f"{name}.memory_horizon", memory_horizon, 2.0, LONGEST_MEMORY_BY_STEPS)
    # A state lasts 1 / (decay * step) steps, the longest with the least of both.
    longest = least_decay * memory_horizon
    return {"min_step": 1 / longest, "max_step": 100 / longest}


def residual_stack(
    features: int,
    layer: tuple[Any, ...],
    num_layers: int,
    norm: Callable[..., nn.Module],
    dtypes: dict[str, Any],
) -> Stack:
    """Return layers with a norm before and a residual around each module, and a norm at the end."""
    layer = tuple(Residual(PreNorm(module, norm, **dtypes)) for module in layer)
    return Stack((Projection(features, **dtypes), *layer * num_layers, norm(**dtypes)))
