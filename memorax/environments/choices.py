"""Several choices at once as a single one."""

import math
from collections.abc import Sequence

from memorax.environments.spaces import Discrete

MOST_CHOICES = 65_536
"""More combinations than a policy can learn to tell apart, at a number each."""


def joint_choice(task: str, sizes: Sequence[int]) -> Discrete:
    """Return the space of all combinations of several choices, the last one running fastest.

    ``numpy.unravel_index(action, sizes)`` takes an action of that space apart.

    Args:
        task: The task, as ``"suite::name"``.
        sizes: How many possibilities each choice has.

    Raises:
        ValueError: If there are more combinations than a policy can choose among.
    """
    combinations = math.prod(sizes)
    if combinations > MOST_CHOICES:
        raise ValueError(
            f"{task} has {combinations:,} combinations of actions to choose among, and at most "
            f"{MOST_CHOICES:,} are supported"
        )
    return Discrete(combinations)
