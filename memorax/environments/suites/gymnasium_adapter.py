"""Gymnasium's environments, and all that are registered with it; the only file to import it."""

import dataclasses
import importlib
import inspect
import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import cloudpickle
import gymnasium
import jax
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec, load_env_creator
from jaxtyping import PyTree

from memorax.environments.checks import REGISTERING, check_parameters, signature_defaults
from memorax.environments.environment import Environment
from memorax.environments.processes.environment import ProcessEnvironment
from memorax.environments.processes.pool import ProcessTask
from memorax.environments.spaces import (
    Box,
    Discrete,
    MultiDiscrete,
    Space,
    flatten_choices,
    structure,
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
        ValueError: If there is no such environment, parameter or key, or a space is not one that
            a network reads.
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
        reason = unknown_name(f"{suite} environment", name, choices)
        if suite == "gymnasium":
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
    module = importlib.import_module(module_name) if module_name else None
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
    check = partial(_check_observation, what, env.observation_space, observation_key)
    observation_space, encode = _observations(task, env.observation_space, observation_key)
    observation_space = declare(observation_space)
    action_space, decode = _actions(task, env.action_space)
    draws = _takes_render_mode(spec) and "rgb_array" in (env.metadata.get("render_modes") or ())
    env.close()
    shape, dtype = _shape_and_dtype(observation_space)
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


def _shape_and_dtype(space: PyTree) -> tuple[tuple[int, ...], Any]:
    """Return those of an observation as one array: of several parts, a record of them."""
    arrays = jax.tree.leaves(structure(space))
    if isinstance(space, Discrete | Box):
        return arrays[0].shape, arrays[0].dtype
    fields = [(f"part_{index}", array.dtype, array.shape) for index, array in enumerate(arrays)]
    return (), np.dtype(fields)


def _observations(task: str, space: Any, key: str | None) -> tuple[PyTree, Callable[[Any], Any]]:
    """Return our space of observations, and how one of Gymnasium's becomes one of ours."""
    if key is not None:
        keys = list(space.spaces) if isinstance(space, spaces.Dict) else []
        if key not in keys:
            raise ValueError(
                f"{task}: observation_key must be one of {keys or 'none'}, got {key!r}"
            )
        inside, encode = _observations(task, space[key], None)
        return inside, lambda observation: encode(observation[key])
    own = (space.shape, space.dtype)
    match space:
        case spaces.Discrete():
            return Discrete(int(space.n)), lambda number: np.asarray(number - space.start)
        case spaces.MultiDiscrete():
            box = _box(space.start, space.start + space.nvec - 1, *own)
            return MultiDiscrete(box.low, box.high, box.shape, box.dtype), np.asarray
        case spaces.MultiBinary():
            return _box(np.zeros(space.shape), np.ones(space.shape), *own), np.asarray
        case spaces.Box():
            return _box(space.low, space.high, *own), np.asarray
        case spaces.Dict() | spaces.Tuple() if _is_numeric(space) and len(space):
            return _parts(task, space)
        case spaces.Dict():
            raise ValueError(
                f"{task} shows more than numbers: choose one of {list(space.spaces)} by "
                "observation_key"
            )
    raise ValueError(f"{task}: observations in {space} cannot be read by a network")


def _parts(task: str, space: Any) -> tuple[PyTree, Callable[[Any], tuple]]:
    """Return the space of a dictionary or tuple, and how an element becomes a tuple of arrays."""
    is_dictionary = isinstance(space, spaces.Dict)
    keys: Any = sorted(space.spaces) if is_dictionary else range(len(space))
    ours, encoders = zip(*(_observations(task, space[key], None) for key in keys), strict=True)

    def encode(observation):
        arrays = []
        for key, encode_part in zip(keys, encoders, strict=True):
            part = encode_part(observation[key])
            arrays += part if isinstance(part, tuple) else [part]
        return tuple(arrays)

    return dict(zip(keys, ours, strict=True)) if is_dictionary else ours, encode


def _check_observation(
    what: str, space: Any, key: str | None, observation: Any, exact: bool
) -> None:
    """Check what is read of an observation: its shapes, dtypes and choices, but no bounds.

    Args:
        what: What it is called.
        space: Gymnasium's space of it.
        key: The only one of a dictionary's keys that is read; None: all are.
        observation: The observation.
        exact: Whether its dtypes have to be those of the space, or only hold numbers that these
            hold too: what an environment says of its dtypes is often not so.
    """
    match space:
        case spaces.Dict():
            keys = list(space) if key is None else [key]
            if not isinstance(observation, Mapping) or not set(keys) <= observation.keys():
                raise ValueError(
                    f"{what} must be a dictionary with {keys}, got {_kind(observation)}"
                )
            for name in keys:
                _check_observation(f"{what}[{name!r}]", space[name], None, observation[name], exact)
        case spaces.Tuple():
            # Gymnasium takes an array for a tuple as well.
            array = isinstance(observation, np.ndarray) and observation.ndim > 0
            several = array or isinstance(observation, (tuple, list))
            if not several or len(observation) != len(space):
                raise ValueError(
                    f"{what} must be a tuple of {len(space)}, got {_kind(observation)}"
                )
            for index, (part, shown) in enumerate(zip(space, observation, strict=True)):
                _check_observation(f"{what}[{index}]", part, None, shown, exact)
        case _:
            try:
                array = np.asarray(observation)
            except ValueError as error:
                raise ValueError(f"{what} is no array: {error}") from error
            _check_array(what, space, array, exact)


def _check_array(what: str, space: Any, array: np.ndarray, exact: bool) -> None:
    same = array.shape == space.shape and array.dtype.kind in "biuf"
    if same and exact:
        same = _same_dtype(space, array.dtype)
    if not same:
        raise ValueError(f"{what} must be {space.dtype} of shape {space.shape}, got {_kind(array)}")
    dtype = jax.dtypes.canonicalize_dtype(space.dtype)
    match space:
        case spaces.Discrete():
            inside = space.start <= array < space.start + space.n
            # Where choices start is taken off before one becomes a number of ours.
            dtype = space.dtype
        case spaces.Box():
            # What an environment says of its bounds is often not so.
            inside = True
        case _:
            inside = space.contains(array.astype(space.dtype))
    if not inside:
        raise ValueError(f"{what} must lie in {space}, got {array}")
    lost = _lost(array, dtype)
    if lost.size:
        raise ValueError(f"{what} must hold numbers of {dtype}, got {lost[0]}")


def _same_dtype(space: Any, dtype: np.dtype) -> bool:
    if isinstance(space, spaces.Discrete):
        # A choice is a whole number, of whatever width Python or NumPy has made it.
        return np.issubdtype(dtype, np.integer)
    if dtype.kind == space.dtype.kind == "i":
        # What an environment says of the width of whole numbers is often not so either.
        return np.can_cast(dtype, space.dtype)
    return dtype == space.dtype


def _lost(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return the numbers that would become others in a dtype; rounding a fraction is none."""
    if dtype.kind == "f" or np.can_cast(array.dtype, dtype):
        return array.ravel()[:0]
    with np.errstate(invalid="ignore"):
        return array[array.astype(dtype) != array]


def _kind(observation: Any) -> str:
    match observation:
        case Mapping():
            return f"a dictionary with {list(observation)}"
        case tuple() | list():
            return f"a tuple of {len(observation)}"
    array = np.asarray(observation)
    return f"{array.dtype} of shape {array.shape}"


def _is_numeric(space: Any) -> bool:
    match space:
        case spaces.Dict():
            return all(map(_is_numeric, space.spaces.values()))
        case spaces.Tuple():
            return all(map(_is_numeric, space.spaces))
    kinds = (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary, spaces.Box)
    return isinstance(space, kinds)


def _box(low: np.ndarray, high: np.ndarray, shape: tuple[int, ...], dtype: Any) -> Box:
    """Return a box of the dtype that JAX has for one of Gymnasium's."""
    dtype = jax.dtypes.canonicalize_dtype(dtype)
    if np.issubdtype(dtype, np.integer):
        # Bounds that it does not reach would be wrapped round, even to a box with nothing in it.
        limits = np.iinfo(dtype)
        low, high = (np.clip(bound, limits.min, limits.max) for bound in (low, high))
    with np.errstate(over="ignore"):
        return Box(low.astype(dtype), high.astype(dtype), shape, dtype)


def _actions(task: str, space: Any) -> tuple[Space, Callable[[np.ndarray], Any]]:
    """Return our space of actions, and how one of ours becomes one of Gymnasium's."""
    match space:
        case spaces.Discrete():
            ours = Discrete(int(space.n))
            return ours, lambda action: space.start + _choice(task, action, ours)
        case spaces.MultiDiscrete() | spaces.MultiBinary():
            sizes = np.full(space.shape, 2) if isinstance(space, spaces.MultiBinary) else space.nvec
            ours = flatten_choices(task, tuple(sizes.ravel().tolist()))

            def take_apart(action):
                parts = np.unravel_index(_choice(task, action, ours), sizes.ravel())
                return np.reshape(parts, space.shape).astype(space.dtype) + getattr(
                    space, "start", 0
                )

            return ours, take_apart
        case spaces.Box():
            low, high = space.low.ravel(), space.high.ravel()
            box = _box(low, high, low.shape, space.dtype)

            def in_range(action):
                if not np.all((action >= box.low) & (action <= box.high)):
                    raise ValueError(f"{task}: the action must lie in {box}, got {action}")
                # What rounding to our dtype has brought over the bounds is brought back.
                inside = np.clip(action.astype(space.dtype), low, high)
                return inside.reshape(space.shape)

            return box, in_range
    raise ValueError(f"{task}: actions in {space} cannot be chosen by a policy")


def _choice(task: str, action: np.ndarray, space: Discrete) -> int:
    if not 0 <= action < space.n:
        raise ValueError(f"{task}: the action must lie in {space}, got {action}")
    return int(action)
