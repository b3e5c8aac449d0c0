import re

import jax
import numpy as np
import pytest

from memorax import environments
from memorax.environments.processes.environment import ProcessEnvironment
from memorax.environments.processes.pool import EnvironmentProcessError
from memorax.environments.spaces import structure

gymnasium = pytest.importorskip("gymnasium")
spaces = gymnasium.spaces
CHOICE = spaces.Discrete(2)


class Shown(gymnasium.Env):
    """An environment of given spaces that is never run.

    Args:
        shown: The space of observations.
        taken: The space of actions.
    """

    def __init__(self, shown=CHOICE, taken=CHOICE):
        self.observation_space, self.action_space = shown, taken


class Bounded(Shown):
    """An environment with a bound that is infinite unless it is set."""

    def __init__(self, bound=float("inf")):
        super().__init__()


class Sized(Shown):
    """An environment whose constructor has to be told something."""

    def __init__(self, size):
        super().__init__()


for task in (Bounded, Sized):
    gymnasium.register(f"{task.__name__}-v0", entry_point=f"{__name__}:{task.__name__}")
gymnasium.register("Shown-v0", entry_point=f"{__name__}:Shown")
NESTED = spaces.Dict(
    a=spaces.Tuple((spaces.Discrete(3, start=-1), spaces.Box(-1, 1, (2,), np.float64))),
    b=spaces.MultiDiscrete([2, 2]),
)
TEXTS = spaces.Dict(text=spaces.Text(5), image=spaces.Box(0, 255, (1, 2), np.uint8))
FOUR = spaces.Box(-1, 1, (4,))
BYTES = spaces.Box(0, 255, (2,), np.uint8)
WIDE = spaces.Box(-(2**63), 2**63 - 1, (1,), np.int64)


def shown(space, **params) -> ProcessEnvironment:
    env, _ = environments.make("gymnasium::Shown-v0", shown=space, **params)
    assert isinstance(env, ProcessEnvironment)
    return env


@pytest.mark.parametrize(
    ("space", "observation", "expected"),
    [
        (spaces.Discrete(3), 2, np.int32(2)),
        (spaces.Discrete(3, start=5), np.uint8(6), np.int32(1)),
        (spaces.Discrete(3, start=-7), -6, np.int32(1)),
        (spaces.MultiDiscrete([2, 3]), np.array([1, 2]), np.int32([1, 2])),
        (spaces.MultiDiscrete([2, 3]), np.int32([1, 2]), np.int32([1, 2])),
        (spaces.Box(-1, 1, (2,), np.float64), np.array([0.5, 3]), np.float32([0.5, 3])),
        (
            NESTED,
            {"b": np.array([1, 0]), "a": (np.int64(1), np.array([0.5, 0]))},
            {"a": (np.int32(2), np.float32([0.5, 0])), "b": np.int32([1, 0])},
        ),
    ],
)
def test_gymnasium_s_observations_become_the_arrays_that_agents_read(space, observation, expected):
    env = shown(space)
    encoded = env.encode(observation)
    assert jax.tree.map(lambda array: array.dtype, encoded) == jax.tree.map(
        lambda array: array.dtype, structure(env.observation_space(None))
    )
    jax.tree.map(np.testing.assert_array_equal, encoded, expected)


def test_only_the_key_that_is_read_has_to_be_there():
    env = shown(TEXTS, observation_key="image")
    image = np.uint8([[1, 2]])
    np.testing.assert_array_equal(env.encode({"image": image}), image)
    with pytest.raises(
        ValueError, match=r"dictionary with \['image'\], got uint8 of shape \(1, 2\)"
    ):
        env.encode(image)
    with pytest.raises(ValueError, match=r"\['image'\] must be uint8 of shape \(1, 2\), got int64"):
        env.encode({"image": image.astype(int)})


@pytest.mark.parametrize(
    ("space", "observation", "words"),
    [
        (spaces.Discrete(3), 3, "must lie in Discrete(3), got 3"),
        (spaces.Discrete(3, start=5), 4, "must lie in Discrete(3, start=5), got 4"),
        (WIDE, np.array([2**32 + 1]), "must hold numbers of int32, got 4294967297"),
        (spaces.Discrete(3), 2**40, "must lie in Discrete(3), got 1099511627776"),
        (spaces.Discrete(3), 1.0, "int64 of shape (), got float64 of shape ()"),
        (spaces.Discrete(3), np.array([1]), "int64 of shape (), got int64 of shape (1,)"),
        (
            spaces.MultiDiscrete([2, 3]),
            np.array([1, 3]),
            "must lie in MultiDiscrete([2 3]), got [1",
        ),
        (spaces.MultiDiscrete([2, 3]), np.zeros(2), "int64 of shape (2,), got float64"),
        (spaces.Box(-1, 1, (2,)), np.zeros(2), "float32 of shape (2,), got float64 of shape (2,)"),
        (spaces.Box(-1, 1, (2,)), np.zeros(3, np.float32), "(2,), got float32 of shape (3,)"),
        (NESTED, {"a": ()}, "a dictionary with ['a', 'b'], got a dictionary with ['a']"),
        (NESTED, {"a": (0,), "b": 0}, "['a'] must be a tuple of 2, got a tuple of 1"),
        (NESTED, {"a": (2, np.zeros(2)), "b": 0}, "['a'][0] must lie in Discrete(3, start=-1)"),
    ],
)
def test_what_is_none_of_gymnasium_s_observations_is_refused(space, observation, words):
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        shown(space).encode(observation)
    assert str(caught.value).startswith("gymnasium::Shown-v0: the observation")


@pytest.mark.parametrize(
    ("space", "observation", "expected"),
    [
        (FOUR, [0.5, 0, 1, 3.0], np.float32([0.5, 0, 1, 3])),
        (FOUR, np.array([0, 1, 2, 3]), np.float32([0, 1, 2, 3])),
        (BYTES, np.array([7, 255]), np.uint8([7, 255])),
        (BYTES, np.array([7.0, 255]), np.uint8([7, 255])),
        (WIDE, np.array([2**31 - 1]), np.int32([2**31 - 1])),
        (spaces.Discrete(3, start=2**40), 2**40 + 2, np.int32(2)),
        (spaces.MultiDiscrete([2, 3]), [1, 2], np.int32([1, 2])),
        (
            spaces.Tuple([spaces.Discrete(2)] * 2),
            np.uint8([0, 1]),
            np.array((0, 1), [("part_0", np.int32), ("part_1", np.int32)]),
        ),
    ],
)
def test_what_an_environment_shows_may_be_of_another_dtype_that_fits(space, observation, expected):
    read = shown(space)._task.read(observation)
    assert read.dtype == expected.dtype
    np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize(
    ("space", "observation", "words"),
    [
        (FOUR, 0.5, "must be float32 of shape (4,), got float64 of shape ()"),
        (FOUR, np.zeros(1, np.float32), "shape (4,), got float32 of shape (1,)"),
        (FOUR, np.zeros(5, np.float32), "shape (4,), got float32 of shape (5,)"),
        (FOUR, [None] * 4, "must be float32 of shape (4,), got object"),
        (FOUR, [[0.5], 1], "is no array: "),
        (BYTES, np.array([7, 301]), "must hold numbers of uint8, got 301"),
        (BYTES, np.array([0.5, 1]), "must hold numbers of uint8, got 0.5"),
        (BYTES, np.array([np.nan, 1]), "must hold numbers of uint8, got nan"),
        (WIDE, np.array([2**32 + 1]), "must hold numbers of int32, got 4294967297"),
        (spaces.Discrete(3), 3, "must lie in Discrete(3), got 3"),
        (spaces.Discrete(3), 1.5, "must hold numbers of int64, got 1.5"),
        (spaces.MultiBinary(2), np.array([0, 257]), "must hold numbers of int8, got 257"),
        (NESTED, {"a": (0, np.zeros(2)), "b": np.array([1, 2])}, "['b'] must lie in Multi"),
        (spaces.Tuple([CHOICE] * 2), np.array(1), "must be a tuple of 2, got int64 of shape ()"),
    ],
)
def test_what_an_environment_cannot_show_is_never_made_to_fit(space, observation, words):
    with pytest.raises(EnvironmentProcessError, match=re.escape(words)) as caught:
        shown(space)._task.read(observation)
    assert str(caught.value).startswith("gymnasium::Shown-v0: the observation")


def test_bounds_that_our_dtype_does_not_reach_are_those_of_the_dtype():
    box = shown(WIDE).observation_space(None)
    assert (box.low.tolist(), box.high.tolist()) == ([-(2**31)], [2**31 - 1])


@pytest.mark.parametrize(
    ("space", "action", "expected"),
    [
        (spaces.Discrete(3, start=5), np.array(1), 6),
        (spaces.MultiDiscrete([2, 3], start=[0, 1]), np.array(4), [1, 2]),
        (spaces.Box(-1, 1, (1, 2), np.float64), np.float32([0.5, 1]), [[0.5, 1]]),
    ],
)
def test_an_action_becomes_one_that_gymnasium_takes(space, action, expected):
    decoded = shown(CHOICE, taken=space).decode(action)
    assert space.contains(decoded)
    np.testing.assert_array_equal(decoded, expected)


def test_a_parameter_may_be_infinite_where_it_is_by_default():
    name = "gymnasium::Bounded-v0"
    assert environments.make(name, bound=float("-inf"))
    with pytest.raises(ValueError, match=rf"{name}: bound must be finite, got nan"):
        environments.make(name, bound=float("nan"))


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("Sized-v0", {}, "{}: TypeError: Sized.__init__() missing 1 required positional argument"),
        ("FrozenLake-v1", {"map_name": "9x9"}, "{'map_name': '9x9'}: KeyError: '9x9'"),
        (".x:Foo-v0", {}, "{}: TypeError: the 'package' argument is required"),
    ],
)
def test_what_a_constructor_fails_with_is_told_in_one_line(name, params, words):
    with pytest.raises(ValueError, match=r".") as caught:
        environments.make(f"gymnasium::{name}", **params)
    assert f"gymnasium::{name} cannot be made with {words}" in str(caught.value)
    assert "\n" not in str(caught.value)
