"""POPGym's environments, through Gymnasium; the only file that imports popgym."""

from typing import Any

import popgym  # noqa: F401  # Registers its environments.

from memorax.environments.environment import Environment
from memorax.environments.suites import gymnasium_adapter

_PREFIX, _SUFFIX = "popgym-", "-v0"


def names() -> list[str]:
    """Return the names of POPGym's environments, such as ``"RepeatFirstEasy"``."""
    registered = gymnasium_adapter.registered(lambda name, _: name.startswith(_PREFIX))
    return [name.removeprefix(_PREFIX).removesuffix(_SUFFIX) for name in registered]


def make(name: str, /, **params: Any) -> tuple[Environment, Any]:
    """Return POPGym's environment in processes, and its parameters, which are none.

    Args:
        name: The task's name, such as ``"RepeatFirstEasy"``.
        **params: As for ``gymnasium.make``.

    Raises:
        ValueError: If the environment or a parameter is unknown.
    """
    return gymnasium_adapter.make_registered(
        "popgym", name, f"{_PREFIX}{name}{_SUFFIX}", params, names()
    )
