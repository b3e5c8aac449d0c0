"""Environments by name."""

import importlib
import importlib.util
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from memorax.environments.environment import Environment
from memorax.validation import unknown_name


@dataclass(frozen=True)
class Suite:
    """A family of environments: a module with ``make`` and ``names``.

    Attributes:
        module: The module, imported when the suite is first asked for.
        packages: The packages that it needs.
        extra: The extra that installs them.
    """

    module: str
    packages: tuple[str, ...] = ()
    extra: str = ""

    @property
    def installed(self) -> bool:
        """Whether everything that the suite needs is installed; nothing is imported."""
        return all(_is_installed(package) for package in self.packages)


SUITES = {
    "ale": Suite("memorax.environments.ale", ("ale_py", "gymnasium"), "ale"),
    "brax": Suite("memorax.environments.brax", ("brax",), "brax"),
    "craftax": Suite("memorax.environments.craftax", ("craftax",), "craftax"),
    "gymnasium": Suite("memorax.environments.gymnasium", ("gymnasium",), "gymnasium"),
    "gymnax": Suite("memorax.environments.gymnax", ("gymnax",), "envs"),
    "jumanji": Suite("memorax.environments.jumanji", ("jumanji",), "jumanji"),
    "memory": Suite("memorax.environments.memory"),
    "minigrid": Suite("memorax.environments.minigrid", ("minigrid", "gymnasium"), "minigrid"),
    "navix": Suite("memorax.environments.navix", ("navix",), "navix"),
    "popgym": Suite("memorax.environments.popgym", ("popgym", "gymnasium"), "popgym"),
    "xminigrid": Suite("memorax.environments.xminigrid", ("xminigrid",), "xminigrid"),
}
"""Every suite by its name."""


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
    return _import_suite(suite).make(task, **params)


def names(suite: str) -> list[str]:
    """Return the names of a suite's environments, without the suite's own.

    Raises:
        ValueError: If there is no such suite; the closest are named.
        ModuleNotFoundError: If the suite is not installed; the extra to install is named.
    """
    return _import_suite(suite).names()


def adapt(env: Any) -> Environment:
    """Return ``env`` if it is an ``Environment``, and a Gymnax environment as one.

    Raises:
        ValueError: If it is neither.
    """
    if isinstance(env, Environment):
        return env
    if any(base.__module__.startswith("gymnax.") for base in type(env).__mro__):
        return _import_suite("gymnax").GymnaxEnvironment(env)
    raise ValueError(
        "env must be a memorax.environments.Environment or a gymnax environment, "
        f"got {type(env).__name__}"
    )


def _import_suite(name: str) -> ModuleType:
    if name not in SUITES:
        raise ValueError(unknown_name("suite", name, SUITES))
    suite = SUITES[name]
    try:
        return importlib.import_module(suite.module)
    except ModuleNotFoundError as error:
        if not suite.extra or (error.name or "").startswith("memorax"):
            raise
        raise ModuleNotFoundError(
            f"environments '{name}::...' need {error.name}: pip install 'memorax[{suite.extra}]'",
            name=error.name,
        ) from error


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:
        # So it is told of a module that is blocked from being imported.
        return False
