"""Conversion of Gymnasium's spaces, observations and actions."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from gymnasium import spaces
from jaxtyping import PyTree

from memorax.environments.spaces import (
    Box,
    Discrete,
    MultiDiscrete,
    Space,
    flatten_choices,
    structure,
)


def shape_and_dtype(space: PyTree) -> tuple[tuple[int, ...], Any]:
    """Return those of an observation as one array: of several parts, a record of them."""
    arrays = jax.tree.leaves(structure(space))
    if isinstance(space, Discrete | Box):
        return arrays[0].shape, arrays[0].dtype
    fields = [(f"part_{index}", array.dtype, array.shape) for index, array in enumerate(arrays)]
    return (), np.dtype(fields)


def convert_observations(
    task: str, space: Any, key: str | None
) -> tuple[PyTree, Callable[[Any], Any]]:
    """Return our space of observations, and how one of Gymnasium's becomes one of ours."""
    if key is not None:
        keys = list(space.spaces) if isinstance(space, spaces.Dict) else []
        if key not in keys:
            raise ValueError(
                f"{task}: observation_key must be one of {keys or 'none'}, got {key!r}"
            )
        inside, encode = convert_observations(task, space[key], None)
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
    ours, encoders = zip(
        *(convert_observations(task, space[key], None) for key in keys), strict=True
    )

    def encode(observation):
        arrays = []
        for key, encode_part in zip(keys, encoders, strict=True):
            part = encode_part(observation[key])
            arrays += part if isinstance(part, tuple) else [part]
        return tuple(arrays)

    return dict(zip(keys, ours, strict=True)) if is_dictionary else ours, encode


def check_observation(
    what: str, space: Any, key: str | None, observation: Any, exact: bool
) -> None:
    """Check the shapes, dtypes and categories of an observation, not its bounds.

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
                check_observation(f"{what}[{name!r}]", space[name], None, observation[name], exact)
        case spaces.Tuple():
            # Gymnasium takes an array for a tuple as well.
            array = isinstance(observation, np.ndarray) and observation.ndim > 0
            several = array or isinstance(observation, (tuple, list))
            if not several or len(observation) != len(space):
                raise ValueError(
                    f"{what} must be a tuple of {len(space)}, got {_kind(observation)}"
                )
            for index, (part, shown) in enumerate(zip(space, observation, strict=True)):
                check_observation(f"{what}[{index}]", part, None, shown, exact)
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
        # A choice is an integer, of whatever width Python or NumPy has made it.
        return np.issubdtype(dtype, np.integer)
    if dtype.kind == space.dtype.kind == "i":
        # What an environment says of the width of integers is often not so either.
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


def convert_actions(task: str, space: Any) -> tuple[Space, Callable[[np.ndarray], Any]]:
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
