"""Checks of an environment's name that need neither JAX nor the environment's suite."""

from memorax.catalog.memory_tasks import MEMORY_TASKS, find_memory_task
from memorax.catalog.suites import REGISTERING, find_suite, missing_package


def check_environment_name(name: str) -> None:
    """Check as much of an environment's name as can be known without importing its suite.

    Args:
        name: The environment, as ``"suite::name"``.

    Raises:
        ValueError: If it has another form, or there is no such suite or no such task of ``memory``;
            the closest are named.
        ModuleNotFoundError: If the suite is not installed; the extra to install is named.
    """
    suite, separator, task = name.partition("::")
    if not (suite and separator and task):
        raise ValueError(unnamed_suite(name))
    package = find_suite(suite).missing
    if package is not None:
        raise missing_package(suite, package)
    if suite == "memory":
        find_memory_task(task)


def unnamed_suite(name: str) -> str:
    """Say how an environment is named, for a name that has no suite."""
    if name in MEMORY_TASKS:
        return f"an environment is named 'suite::name', got {name!r}; write 'memory::{name}'"
    return (
        f"an environment is named 'suite::name', got {name!r}; for one of your own, {REGISTERING}"
    )
