"""MiniGrid's and BabyAI's environments, through Gymnasium; the only file that imports minigrid."""

from typing import Any

import minigrid  # noqa: F401  # Registers its environments.
import numpy as np
from jaxtyping import PyTree
from minigrid.core.constants import COLOR_TO_IDX, DIR_TO_VEC, OBJECT_TO_IDX
from minigrid.minigrid_env import MiniGridEnv

from memorax.environments.checks import signature_defaults
from memorax.environments.environment import Environment
from memorax.environments.spaces import Box, MultiDiscrete
from memorax.environments.suites import gymnasium_adapter
from memorax.validation import check_integer, check_positive

# What every task hands on to MiniGrid's own constructor.
_OPTIONS = {
    option: signature_defaults(MiniGridEnv)[option]
    for option in ("agent_view_size", "max_steps", "see_through_walls")
}

# Of each cell: the state is that of a door, or the direction of an agent.
_LARGEST = np.array(
    [max(OBJECT_TO_IDX.values()), max(COLOR_TO_IDX.values()), len(DIR_TO_VEC) - 1], np.uint8
)


def names() -> list[str]:
    """Return the names of MiniGrid's environments, such as ``"MiniGrid-MemoryS7-v0"``."""
    return gymnasium_adapter.registered(lambda _, entry_point: entry_point.startswith("minigrid."))


def make(name: str, /, **params: Any) -> tuple[Environment, Any]:
    """Return MiniGrid's environment in processes, and its parameters, which are none.

    What is shown is the image: tile, colour and state of each cell in view. The mission is a
    text, and the direction is known to one who remembers turning.

    Args:
        name: MiniGrid's name, such as ``"MiniGrid-MemoryS7-v0"``.
        **params: As for ``gymnasium.make``; ``observation_key="direction"`` shows that instead.
            ``agent_view_size``, odd and at least 3, is how far the agent sees, ``max_steps`` the
            time limit, and ``see_through_walls`` can be set where a task does not say it itself.

    Raises:
        ValueError: If the environment or a parameter is unknown, or a value is out of range.
    """
    if "max_steps" in params:
        check_positive(f"minigrid::{name}: max_steps", params["max_steps"])
    if "agent_view_size" in params:
        check_integer(f"minigrid::{name}: agent_view_size", params["agent_view_size"], 3)
        if params["agent_view_size"] % 2 == 0:
            raise ValueError(
                f"minigrid::{name}: agent_view_size must be odd, got {params['agent_view_size']}"
            )
    params = {"observation_key": "image"} | params
    return gymnasium_adapter.make_registered(
        "minigrid", name, name, params, names(), _OPTIONS, _with_categories
    )


def _with_categories(space: PyTree) -> PyTree:
    if isinstance(space, Box) and space.dtype == np.uint8 and space.shape[2:] == _LARGEST.shape:
        return MultiDiscrete(np.uint8(0), _LARGEST, space.shape, space.dtype)
    return space
