"""The Arcade Learning Environment, through Gymnasium; the only file that imports ale_py."""

from typing import Any

import ale_py

from memorax.environments.environment import Environment
from memorax.environments.suites import gymnasium_adapter

_PREFIX = "ALE/"

# It would greet whoever makes a game.
ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)


def names() -> list[str]:
    """Return the names of the games, such as ``"Pong-v5"``."""
    registered = gymnasium_adapter.registered(lambda name, _: name.startswith(_PREFIX))
    return [name.removeprefix(_PREFIX) for name in registered]


def make(name: str, /, **params: Any) -> tuple[Environment, Any]:
    """Return the game in processes, and its parameters, which are none.

    Args:
        name: The game's name, such as ``"Pong-v5"``.
        **params: As for ``gymnasium.make``, such as ``obs_type="ram"`` or ``frameskip=1``.

    Raises:
        ValueError: If the game or a parameter is unknown.
    """
    return gymnasium_adapter.make_registered("ale", name, f"{_PREFIX}{name}", params, names())
