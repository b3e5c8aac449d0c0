"""Targets of a horde's demons in a rollout."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, PyTree

from memorax.networks import heads


@struct.dataclass
class DemonSteps:
    """The steps of one horde's demons. All lead with (time, envs).

    Attributes:
        transition: The transitions, as demons read them.
        predictions: The prediction of each before the transition.
    """

    transition: PyTree
    predictions: PyTree


def demon_targets(
    horde: heads.Horde, steps: DemonSteps, last_predictions: dict[str, Array]
) -> dict[str, Array]:
    """Return each demon's target; the last step bootstraps from the prediction after it."""
    next_predictions = jax.tree.map(
        lambda predicted, last: jnp.concatenate([predicted[1:], last[None]]),
        steps.predictions,
        last_predictions,
    )
    return horde.targets(steps.transition, next_predictions)
