"""Validation of rewards, and the task's own reward where a wrapper changes it."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

TASK_REWARD = "task_reward"
"""The entry of ``info`` with the task's own reward, where a wrapper changes it."""


def as_reward(task: str, reward: Any) -> Float[Array, ""]:
    """Return a reward as a number of 32 bits; an array of one element counts as a number.

    Args:
        task: The task's name.
        reward: The reward of a single copy.

    Raises:
        ValueError: If it is not a single number.
    """
    array = reward if hasattr(reward, "dtype") else np.asarray(reward)
    number = array.dtype != object and any(
        jnp.issubdtype(array.dtype, kind) for kind in (jnp.number, jnp.bool_)
    )
    if array.shape not in ((), (1,)) or not number:
        got = repr(reward) if array is not reward else f"{array.dtype} of shape {array.shape}"
        raise ValueError(f"{task}: the reward must be a number, got {got}")
    return jnp.asarray(reward, jnp.float32).reshape(())


def changed_reward(info: dict[str, Any], reward: Any) -> dict[str, Any]:
    """Return ``info`` with the task's own reward, for a wrapper that changes it."""
    return {TASK_REWARD: reward, **info}
