"""Environments by name."""

import importlib
from typing import Any

from memorax.environments.environment import Environment
from memorax.validation import unknown_name

# Each suite is one module with `make` and `names`, imported when it is first asked for.
_SUITES = {
    "gymnax": "memorax.environments.gymnax",
    "memory": "memorax.environments.memory",
}


def make(name: str, **params: Any) -> tuple[Environment, Any]:
    """Return an environment and its parameters.

    Args:
        name: ``"suite::name"``, such as ``"gymnax::MemoryChain-bsuite"``.
        **params: The environment's own parameters, such as ``memory_length=20``.

    Raises:
        ValueError: If there is no such suite, environment or parameter; the closest are named.
        ModuleNotFoundError: If the suite is not installed; the extra to install is named.
    """
    suite, separator, task = name.partition("::")
    if not separator:
        raise ValueError(f"an environment is named 'suite::name', got {name!r}")
    if suite not in _SUITES:
        raise ValueError(unknown_name("suite", suite, _SUITES))
    return importlib.import_module(_SUITES[suite]).make(task, **params)


def adapt(env: Any) -> Environment:
    """Return ``env`` if it is an ``Environment``, and a Gymnax environment as one.

    Raises:
        ValueError: If it is neither.
    """
    if isinstance(env, Environment):
        return env
    if any(base.__module__.startswith("gymnax.") for base in type(env).__mro__):
        return importlib.import_module(_SUITES["gymnax"]).GymnaxEnvironment(env)
    raise ValueError(
        "env must be a memorax.environments.Environment or a gymnax environment, "
        f"got {type(env).__name__}"
    )
