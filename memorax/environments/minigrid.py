"""MiniGrid's and BabyAI's environments, through Gymnasium; the only file that imports minigrid."""

from typing import Any

import minigrid  # noqa: F401  # Registers its environments.

from memorax.environments import gymnasium
from memorax.environments.environment import Environment


def names() -> list[str]:
    """Return the names of MiniGrid's environments, such as ``"MiniGrid-MemoryS7-v0"``."""
    return gymnasium.registered(lambda _, entry_point: entry_point.startswith("minigrid."))


def make(name: str, **params: Any) -> tuple[Environment, Any]:
    """Return MiniGrid's environment in processes, and its parameters, which are none.

    What is shown is the image: tile, colour and state of each cell in view. The mission is a
    text, and the direction is known to one who remembers turning.

    Args:
        name: MiniGrid's name, such as ``"MiniGrid-MemoryS7-v0"``.
        **params: As for ``gymnasium.make``; ``observation_key="direction"`` shows that instead.

    Raises:
        ValueError: If there is no such environment or parameter.
    """
    params = {"observation_key": "image"} | params
    return gymnasium.make_registered("minigrid", name, name, params, names())
