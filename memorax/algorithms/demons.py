"""What the demons of a horde learn from a rollout."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, PyTree

from memorax.networks import heads


@struct.dataclass
class DemonSteps:
    """What the demons of one horde learn from. All lead with (time, envs).

    Attributes:
        transition: What happened, as demons are shown it.
        predictions: What each expected before.
        cut_off: True where a time limit ended the episode.
        predictions_cut_off: What each would have expected next there, elsewhere 0.
    """

    transition: PyTree
    predictions: PyTree
    cut_off: PyTree
    predictions_cut_off: PyTree


def demon_targets(
    horde: heads.Horde, steps: DemonSteps, last_predictions: dict[str, Array]
) -> dict[str, Array]:
    """Return each demon's target; the last step bootstraps from the prediction after it."""
    next_predictions = jax.tree.map(
        lambda predicted, last, cut_off: jnp.where(
            steps.cut_off, cut_off, jnp.concatenate([predicted[1:], last[None]])
        ),
        steps.predictions,
        last_predictions,
        steps.predictions_cut_off,
    )
    return horde.targets(steps.transition, next_predictions)
