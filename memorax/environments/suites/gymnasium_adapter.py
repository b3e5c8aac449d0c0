"""Gymnasium's environments, and all that are registered with it."""

import dataclasses
import importlib
import inspect
import pickle
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType, ModuleType
from typing import Any

import cloudpickle
import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator
from jaxtyping import PyTree

from memorax.catalog.suites import REGISTERING
from memorax.environments.checks import check_parameters, signature_defaults
from memorax.environments.environment import Environment
from memorax.environments.processes.environment import ProcessEnvironment
from memorax.environments.processes.pool import ProcessTask
from memorax.environments.suites.gymnasium_spaces import (
    check_observation,
    convert_actions,
    convert_observations,
    shape_and_dtype,
)
from memorax.validation import check_positive, unknown_name


def names() -> list[str]:
    """Return the names of Gymnasium's own environments."""
    return registered(lambda name, entry_point: entry_point.startswith("gymnasium."))


def make(name: str, /, **params: Any) -> tuple[Environment, Any]:
    """Return Gymnasium's environment in processes, and its parameters, which are none.

    An observation that is a dictionary or tuple stays one, of arrays, unless one of the
    dictionary's keys is chosen. Several choices of action at once are one, the last one running
    fastest; a continuous action is a vector.

    Args:
        name: Gymnasium's name, such as ``"CartPole-v1"``, or that of any environment registered
            with it, its module before a colon if that is yet to be imported; or
            ``"module:Class"``, a class of environments.
        **params: ``max_episode_steps``, the time limit; ``observation_key``, the key of a
            dictionary to show alone; and arguments of the environment's constructor.

    Raises:
        ValueError: If the environment, a parameter or the key is unknown, or a network cannot read
            a space.
        ModuleNotFoundError: If the environment needs a package that is not installed.
    """
    return make_registered("gymnasium", name, name, params, names())


def registered(belongs: Callable[[str, str], bool]) -> list[str]:
    """Return the registered names for which ``belongs(name, entry point)``."""
    return [
        name
        for name, spec in gymnasium.registry.items()
        if isinstance(spec.entry_point, str) and belongs(name, spec.entry_point)
    ]


def make_registered(
    suite: str,
    name: str,
    gymnasium_name: str,
    params: dict[str, Any],
    choices: Sequence[str],
    options: Mapping[str, Any] = MappingProxyType({}),
    declare: Callable[[PyTree], PyTree] = lambda space: space,
) -> tuple[Environment, Any]:
    """Return an environment that is registered with Gymnasium, for one of the suites.

    Args:
        suite: The suite.
        name: The suite's name of it.
        gymnasium_name: Gymnasium's name of it.
        params: As for ``make``.
        choices: The suite's names; an error lists the closest.
        options: What the suite's constructors take without naming it, with the defaults.
        declare: From the space of observations that the environment has declared to the one that
            the suite knows it to be, of the same arrays.
    """
    try:
        spec = _spec(gymnasium_name)
    except gymnasium.error.Error as error:
        own = _names_of_module(gymnasium_name.rpartition(":")[0])
        reason = unknown_name(f"{suite} environment", name, own or choices)
        if suite == "gymnasium" and not own:
            reason += f"; for one of your own, {REGISTERING}"
        raise ValueError(reason) from error
    return _make(f"{suite}::{name}", spec, params, options, declare)


def make_own(env: Any, /, **params: Any) -> tuple[Environment, Any]:
    """Return an environment of the user's own in processes, registered or not.

    A class or function makes each copy in its process. An environment is copied as it is, with its
    wrappers; it is not stepped itself. What another process cannot import, such as a class of a
    script or notebook, is sent by ``cloudpickle``, which comes with Gymnasium.

    Args:
        env: A Gymnasium environment, its class, or a function that makes one.
        **params: As for ``make``; an environment has no arguments of a constructor any more.

    Raises:
        ValueError: As ``make``, or if it cannot be sent to another process.
    """
    if isinstance(env, gymnasium.Env):
        spec = getattr(env.unwrapped, "spec", None)
        name = spec.id if spec else type(env.unwrapped).__name__
        env = _copying(f"gymnasium::{name}", env)
    else:
        # Lambdas and what is no function have no name that Gymnasium takes.
        name = re.sub(r"\W", "", getattr(env, "__name__", type(env).__name__))
    return _make(f"gymnasium::{name}", EnvSpec(name, entry_point=env), params)


def _spec(name: str) -> EnvSpec:
    """Return what is registered by a name, or a class of a module as if it were."""
    module_name, _, registered_name = name.rpartition(":")
    module = _import(module_name) if module_name else None
    own = getattr(module, registered_name, None)
    # Nothing but an environment: names are also read from files, which may run nothing else.
    if isinstance(own, type) and issubclass(own, gymnasium.Env):
        spec = EnvSpec(registered_name, entry_point=name)
    else:
        spec = gymnasium.spec(registered_name)
    if isinstance(spec.entry_point, str) and spec.entry_point.startswith("__main__:"):
        # Another process has another __main__.
        return dataclasses.replace(spec, entry_point=load_env_creator(spec.entry_point))
    return spec


def _names_of_module(name: str) -> list[str]:
    """Return how an imported module's classes and registered environments are named."""
    classes = [
        own
        for own, value in vars(sys.modules.get(name, object)).items()
        if isinstance(value, type) and issubclass(value, gymnasium.Env)
    ]
    ids = registered(lambda _, entry_point: entry_point.partition(":")[0] == name)
    return [f"{name}:{own}" for own in (*classes, *ids)]


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ValueError(
            f"there is no module {name!r} on Python's path: go to its folder, or set PYTHONPATH to "
            "that"
        ) from error


def _copying(task: str, env: gymnasium.Env) -> Callable[[], gymnasium.Env]:
    """Return a function that makes copies of an environment."""
    kind = type(env.unwrapped).__name__
    data = _sent(task, env, f"pass its class, {kind}, or a function that makes one, or ")
    # A function inside of another goes to a process without the module that it is in.
    return lambda: pickle.loads(data)


def _sent(task: str, what: Any, advice: str = "") -> bytes:
    """Return what another process makes of an environment, or of how to make it.

    Args:
        task: The task.
        what: What to send.
        advice: What to do if it cannot be sent, before how to register it.

    Raises:
        ValueError: If it cannot be pickled.
    """
    try:
        return cloudpickle.dumps(what)
    except Exception as error:
        raise ValueError(
            f"{task} runs in processes, and cannot be sent to one: {type(error).__name__}: "
            f"{error}; {advice}{REGISTERING}"
        ) from error


def _make(
    task: str,
    spec: EnvSpec,
    params: dict[str, Any],
    options: Mapping[str, Any] = MappingProxyType({}),
    declare: Callable[[PyTree], PyTree] = lambda space: space,
) -> tuple[Environment, Any]:
    """Return a task of Gymnasium's in processes; the arguments are those of ``make_registered``."""
    _sent(task, (spec, params))
    try:
        _check(task, spec, params, options)
        params = dict(params)
        observation_key = params.pop("observation_key", None)
        env = gymnasium.make(spec, disable_env_checker=True, **params)
    except gymnasium.error.DependencyNotInstalled as error:
        raise ModuleNotFoundError(f"{task}: {error}") from error
    what = f"{task}: the observation"
    check = partial(check_observation, what, env.observation_space, observation_key)
    observation_space, encode = convert_observations(task, env.observation_space, observation_key)
    observation_space = declare(observation_space)
    action_space, decode = convert_actions(task, env.action_space)
    draws = _takes_render_mode(spec) and "rgb_array" in (env.metadata.get("render_modes") or ())
    env.close()
    shape, dtype = shape_and_dtype(observation_space)
    process_task = ProcessTask(task, spec, params, check, encode, decode, shape, dtype, draws)
    return ProcessEnvironment(process_task, observation_space, action_space), None


def _creator(spec: Any) -> Callable[..., Any]:
    creator = spec.entry_point
    return load_env_creator(creator) if isinstance(creator, str) else creator


def _takes_render_mode(spec: Any) -> bool:
    parameters = inspect.signature(_creator(spec)).parameters
    any_name = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())
    return any_name or "render_mode" in parameters or "render_mode" in spec.kwargs


def _check(task: str, spec: Any, params: dict[str, Any], options: Mapping[str, Any]) -> None:
    accepted = dict(options) | signature_defaults(_creator(spec)) | spec.kwargs
    accepted |= {"observation_key": None, "max_episode_steps": None}
    # Drawing is asked of the environment, not of the task.
    accepted.pop("render_mode", None)
    check_parameters(task, params, accepted)
    if "max_episode_steps" in params:
        check_positive(f"{task}: max_episode_steps", params["max_episode_steps"])
