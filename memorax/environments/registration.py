"""Environments by name."""

import importlib
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

from memorax.catalog.environments import unnamed_suite
from memorax.catalog.suites import SUITES, find_suite, missing_package
from memorax.environments.environment import Environment
from memorax.environments.spaces import Discrete
from memorax.validation import unknown_name

__all__ = ["SUITES", "adapt", "make", "names"]


def make(name: Any, /, **params: Any) -> tuple[Environment, Any]:
    """Return an environment and its parameters.

    Args:
        name: ``"suite::name"``, such as ``"gymnax::MemoryChain-bsuite"``; or a Gymnasium
            environment, its class, or a function that makes one.
        **params: The environment's own parameters, such as ``memory_length=20``.

    Raises:
        ValueError: If the suite, environment or a parameter is unknown, naming the closest; if
            the suite fails to make or to run it with these parameters; if an environment cannot be
            sent to a process.
        ModuleNotFoundError: If the suite is not installed; the extra to install is named.
    """
    if not isinstance(name, str):
        if isinstance(name, Environment) or _is_gymnax(name):
            raise ValueError(
                f"{type(name).__name__} is an environment already: give it to the agent as it is"
            )
        return _make_own(name, params)
    suite, separator, task = name.partition("::")
    if not separator:
        raise ValueError(unnamed_suite(name))
    module = _import_suite(suite)
    try:
        env, env_params = module.make(task, **params)
    except (ValueError, ModuleNotFoundError):
        raise
    # What suites make of parameters that they do not check can be anything.
    except Exception as error:
        if isinstance(error, KeyError) and task not in module.names():
            raise ValueError(unknown_name(f"{suite} environment", task, module.names())) from error
        raise ValueError(_cannot_be_made(name, params, error)) from error
    if params:
        try:
            _try_out(env, env_params)
        except Exception as error:
            raise ValueError(_cannot_be_made(name, params, error)) from error
    return env, env_params


def names(suite: str) -> list[str]:
    """Return the names of a suite's environments, without the suite's own.

    Raises:
        ValueError: If the suite is unknown; the message names the closest.
        ModuleNotFoundError: If the suite is not installed; the extra to install is named.
    """
    return _import_suite(suite).names()


def adapt(env: Any) -> Environment:
    """Return ``env`` if it is an ``Environment``, and one of Gymnax or Gymnasium as one.

    Raises:
        ValueError: If it is neither, or as ``make``.
    """
    if isinstance(env, Environment):
        return env
    if isinstance(env, tuple) and env and isinstance(env[0], Environment):
        raise ValueError(
            "env must be an environment, got a tuple of one and its parameters: write "
            "env, env_params = memorax.environments.make(...)"
        )
    if _is_gymnax(env):
        return _import_suite("gymnax").GymnaxEnvironment(env)
    return _make_own(env, {})[0]


def _make_own(env: Any, params: dict[str, Any]) -> tuple[Environment, Any]:
    kind = env if isinstance(env, type) else type(env)
    bases = {(base.__module__.partition(".")[0], base.__name__) for base in kind.__mro__}
    of_gymnasium = ("gymnasium", "Env") in bases
    others = {module for module, _ in bases} & {"memorax", "gymnax", "gymnasium"}
    makes_one = callable(env) and not others
    if not (of_gymnasium or makes_one):
        got = f"the class {kind.__name__}" if kind is env else kind.__name__
        raise ValueError(
            "env must be a memorax.environments.Environment, a gymnax environment, or a Gymnasium "
            f"environment, its class or a function that makes one, got {got}; others have a name "
            "for memorax.environments.make, 'suite::name'"
        )
    try:
        return _import_suite("gymnasium").make_own(env, **params)
    except (ValueError, ModuleNotFoundError):
        raise
    # What a user's own class or function raises can be anything.
    except Exception as error:
        raise ValueError(
            _cannot_be_made(getattr(env, "__name__", kind.__name__), params, error)
        ) from error


def _is_gymnax(env: Any) -> bool:
    return any(base.__module__.startswith("gymnax.") for base in type(env).__mro__)


def _try_out(env: Environment, env_params: Any) -> None:
    """Trace a reset and a step without computing them."""

    def begin_and_step(key):
        _, state = env.reset(key, env_params)
        space = env.action_space(env_params)
        if isinstance(space, Discrete):
            action = jnp.int32(0)
        else:
            action = jnp.zeros(space.shape, space.dtype)
        return env.step(key, state, action, env_params)

    jax.eval_shape(begin_and_step, jax.random.key(0))


def _cannot_be_made(name: str, params: dict[str, Any], error: Exception) -> str:
    words = f"{name} cannot be made with {params}: {type(error).__name__}: {error}"
    return " ".join(words.split()).removesuffix(":")


# Packages make constants as they are imported.
@jax.enable_x64(False)
def _import_suite(name: str) -> ModuleType:
    suite = find_suite(name)
    try:
        return importlib.import_module(suite.module)
    except ModuleNotFoundError as error:
        if not suite.extra or (error.name or "").startswith("memorax"):
            raise ValueError(_unimportable(name, error)) from error
        raise missing_package(name, error.name or name) from error
    except Exception as error:
        # A package that does not fit the others fails in any way as it is imported.
        raise ValueError(_unimportable(name, error)) from error


def _unimportable(suite: str, error: Exception) -> str:
    return f"{suite} cannot be imported: {type(error).__name__}: {error}"
