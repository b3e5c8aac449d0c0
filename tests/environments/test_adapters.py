import re
import sys
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax import environments
from memorax.environments import SUITES, Box, Discrete, MultiDiscrete, Vectorize
from memorax.environments.episodic import EpisodicEnvironment
from memorax.environments.spaces import structure
from memorax.installed_package import install_command

STEPS = 14
# Their programs take longest to compile.
LARGE = {suite: [pytest.mark.exhaustive] for suite in ("brax", "craftax")}


class Limited(NamedTuple):
    """A task with a time limit that can be set where the program is already compiled.

    Attributes:
        name: The task.
        params: Its own parameters.
        limit: (environment, parameters, time limit) to both with that limit.
        ending: The action that leads to a termination within STEPS, None if none does surely.
    """

    name: str
    params: dict
    limit: object
    ending: object = None


def limit_brax(env, params, limit):
    env._episode_length = limit
    return env, params


def limit_jumanji(env, params, limit):
    env._env.unwrapped.time_limit = limit
    return env, params


def limit_navix(env, params, limit):
    env._env = env._env.replace(max_steps=limit)
    return env, params


LIMITED = {
    "brax": Limited(
        "inverted_pendulum",
        {"backend": "spring"},
        limit_brax,
        np.full((STEPS, 2, 1), 3.0, np.float32),
    ),
    "craftax": Limited(
        "Craftax-Classic-Symbolic-v1",
        {},
        lambda env, params, limit: (env, params.replace(max_timesteps=limit)),
    ),
    "jumanji": Limited("LevelBasedForaging-v0", {}, limit_jumanji),
    "navix": Limited(
        "Navix-Empty-5x5-v0",
        {},
        limit_navix,
        np.resize([2, 2, 1, 2, 2], (2, STEPS)).T.astype(np.int32),
    ),
    "xminigrid": Limited(
        "MiniGrid-Empty-5x5",
        {},
        lambda env, params, limit: (env, params.replace(max_steps=limit)),
        np.resize([0, 0, 1, 0, 0], (2, STEPS)).T.astype(np.int32),
    ),
}


def each(suites):
    """Parametrize by suite, all tests of one on the same worker: their program is compiled once."""
    return pytest.mark.parametrize(
        "suite",
        [
            pytest.param(
                suite,
                marks=[
                    pytest.mark.extra(suite),
                    pytest.mark.xdist_group(suite),
                    *LARGE.get(suite, []),
                ],
            )
            for suite in suites
        ],
    )


limited_suites = each(LIMITED)
# Those that a fixed action ends surely.
ending_suites = each(suite for suite, task in LIMITED.items() if task.ending is not None)


@cache
def prepared(suite):
    """Return a task's spaces and a compiled (seed, actions, limit) to what two copies show."""
    task = LIMITED[suite]
    env, params = environments.make(f"{suite}::{task.name}", **task.params)

    @jax.jit
    def play(seed, actions, limit):
        limited, limited_params = task.limit(env, params, limit)
        envs = Vectorize(limited, 2)
        reset_key, key = jax.random.split(jax.random.key(seed))
        first, state = envs.reset(reset_key, limited_params)

        def step(state, inputs):
            key, action = inputs
            observation, state, *rest = envs.step(key, state, action, limited_params)
            return state, (observation, *rest)

        _, steps = jax.lax.scan(step, state, (jax.random.split(key, STEPS), actions))
        return first, *steps

    return env.observation_space(params), env.action_space(params), play


def random_actions(space, seed=0):
    generator = np.random.default_rng(seed)
    if isinstance(space, Discrete):
        return generator.integers(0, space.n, (STEPS, 2), dtype=np.int32)
    return generator.uniform(space.low, space.high, (STEPS, 2, *space.shape)).astype(np.float32)


@limited_suites
def test_what_is_seen_lies_in_the_space(suite):
    observation_space, action_space, play = prepared(suite)
    first, observation, reward, terminated, truncated, info = play(
        0, random_actions(action_space), 6
    )
    assert reward.dtype == jnp.float32
    assert np.isfinite(reward).all()
    assert terminated.dtype == truncated.dtype == bool
    for seen in (first[None], observation, info["final_observation"]):
        assert seen.shape[2:] == observation_space.shape
        assert seen.dtype == observation_space.dtype
        for single in np.asarray(seen).reshape(-1, *observation_space.shape):
            assert observation_space.contains(single)


@limited_suites
def test_a_time_limit_truncates_and_keeps_the_true_last_observation(suite):
    _, action_space, play = prepared(suite)
    # What no random action ends, so that only the limits do.
    actions = np.zeros_like(random_actions(action_space))
    first, observation, _, terminated, truncated, info = play(0, actions, 6)
    _, unlimited, _, _, never, _ = play(0, actions, 1000)
    assert not terminated.any()
    assert not never.any()
    ended = np.asarray(truncated)
    assert np.flatnonzero(ended.all(axis=1)).tolist() == [5, 11]
    assert ended.sum() == 4
    np.testing.assert_array_equal(info["final_observation"][:6], unlimited[:6])
    np.testing.assert_array_equal(observation[:5], unlimited[:5])
    assert (np.asarray(observation[5]) != unlimited[5]).any(), "the next episode has begun"
    assert first.shape == observation[5].shape


@ending_suites
def test_a_termination_is_told_from_a_time_limit(suite):
    _, _, play = prepared(suite)
    _, observation, _, terminated, truncated, info = play(0, LIMITED[suite].ending, 1000)
    assert terminated.any()
    assert not truncated.any()
    ended = np.asarray(terminated)
    assert (np.asarray(observation) != info["final_observation"])[ended].any()
    np.testing.assert_array_equal(
        np.asarray(observation)[~ended], np.asarray(info["final_observation"])[~ended]
    )


@limited_suites
def test_seeds_reproduce(suite):
    _, action_space, play = prepared(suite)
    actions = random_actions(action_space)
    jax.tree.map(np.testing.assert_array_equal, play(3, actions, 6), play(3, actions, 6))
    if suite not in ("navix", "xminigrid"):
        (first, *_), (other, *_) = play(3, actions, 6), play(4, actions, 6)
        assert (np.asarray(first) != other).any()


@limited_suites
def test_an_action_out_of_range_is_never_wrapped(suite):
    _, action_space, play = prepared(suite)
    actions = random_actions(action_space)
    actions[0] = action_space.n if isinstance(action_space, Discrete) else action_space.high + 1
    reward = play(0, actions, 6)[2]
    assert np.isnan(reward[0]).all()
    assert np.isfinite(reward[1:]).all()


class Ends(EpisodicEnvironment):
    """Ends by itself after as many steps as the action at its first step says."""

    def begin(self, key, params):
        return jnp.float32(0), (jnp.int32(0), jnp.int32(0))

    def advance(self, key, state, action, params):
        length, time = state
        length = jnp.where(time == 0, action, length)
        time = time + 1
        return time.astype(jnp.float32), (length, time), jnp.float32(1), time == length, time == 3

    def observation_space(self, params):
        return Box(0.0, 9.0, ())

    def action_space(self, params):
        return Discrete(9)


def test_copies_begin_again_each_for_itself():
    envs = Vectorize(Ends("ends"), 3)
    _, state = envs.reset(jax.random.key(0), None)
    action = jnp.array([2, 3, 8])
    seen = []
    for _ in range(4):
        observation, state, _, terminated, truncated, info = jax.jit(envs.step)(
            jax.random.key(0), state, action, None
        )
        seen.append(
            [np.asarray(array).tolist() for array in (observation, terminated, truncated)]
            + [np.asarray(info["final_observation"]).tolist()]
        )
    no = [False] * 3
    assert seen == [
        [[1, 1, 1], no, no, [1, 1, 1]],
        [[0, 2, 2], [True, False, False], no, [2, 2, 2]],
        [[1, 0, 0], [False, True, False], [False, False, True], [1, 3, 3]],
        [[0, 1, 1], [True, False, False], no, [2, 1, 1]],
    ], "where both a termination and a limit end it, it is a termination"


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (jnp.int32(9), "got 9"),
        (jnp.int32(-1), "got -1"),
        (jnp.float32(1), r"got float32 of shape \(\)"),
        (jnp.zeros(2, jnp.int32), r"got int32 of shape \(2,\)"),
    ],
)
def test_an_action_that_is_none_is_refused_where_that_is_known(action, words):
    env = Ends("ends")
    _, state = env.reset(jax.random.key(0), None)
    with pytest.raises(ValueError, match=rf"ends: the action must lie in Discrete\(n=9\), {words}"):
        env.step(jax.random.key(0), state, action, None)


PROCESSES = {
    "ale": ("Pong-v5", {"obs_type": "ram", "max_episode_steps": 6}),
    "gymnasium": ("Pendulum-v1", {"max_episode_steps": 6}),
    "minigrid": ("MiniGrid-Empty-5x5-v0", {"max_steps": 6}),
    "popgym": ("AutoencodeEasy", {}),
}


def theirs(suite):
    """Return Gymnasium's own environment and what makes arrays of an observation of it."""
    import gymnasium

    name, params = PROCESSES[suite]
    if suite == "ale":
        return gymnasium.make(f"ALE/{name}", **params), np.asarray
    if suite == "popgym":
        env = gymnasium.make(f"popgym-{name}-v0", disable_env_checker=True)
        return env, lambda seen: tuple(map(np.asarray, seen))
    env = gymnasium.make(name, **params)
    return env, np.asarray if suite == "gymnasium" else lambda seen: seen["image"]


def assert_close(shown, expected):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), shown, expected)


@pytest.mark.parametrize(
    "suite", [pytest.param(suite, marks=pytest.mark.extra(suite)) for suite in PROCESSES]
)
def test_processes_show_what_gymnasium_shows(suite):
    name, params = PROCESSES[suite]
    env, _ = environments.make(f"{suite}::{name}", **params)
    space = env.observation_space(None)
    actions = random_actions(env.action_space(None))[:8, 0]
    oracle, as_array = theirs(suite)
    key = jax.random.key(5)
    seen, _ = oracle.reset(seed=int(jax.random.bits(key, (), jnp.uint32) >> 1))
    observation, state = env.reset(key, None)
    for array, expected in zip(*map(jax.tree.leaves, (observation, structure(space))), strict=True):
        assert (array.shape, array.dtype) == (expected.shape, expected.dtype)
    assert_close(observation, as_array(seen))
    ends = 0
    for action in actions:
        seen, reward, terminated, truncated, _ = oracle.step(action)
        final = as_array(seen)
        if terminated or truncated:
            ends += 1
            seen, _ = oracle.reset()
        observation, state, *rest, info = env.step(key, state, jnp.asarray(action), None)
        assert_close(info["final_observation"], final)
        assert_close(observation, as_array(seen))
        contained = jax.tree.map(lambda part, array: part.contains(array), space, observation)
        assert all(jax.tree.leaves(contained))
        assert rest == [pytest.approx(reward), terminated, truncated]
    assert ends == 1 or suite == "popgym"
    environments.release(state)


CATEGORIES = {
    "minigrid::MiniGrid-Empty-5x5-v0": [11, 6, 4],
    "navix::Navix-Empty-5x5-v0": [11, 6, 4],
    "xminigrid::MiniGrid-Empty-5x5": [13, 12],
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.extra(name.split("::")[0])) for name in CATEGORIES],
)
def test_the_cells_of_a_grid_hold_categories(name):
    env, params = environments.make(name)
    space = env.observation_space(params)
    assert isinstance(space, MultiDiscrete)
    assert (space.sizes == CATEGORIES[name]).all()
    assert space.dtype == jnp.uint8


@pytest.mark.extra("navix")
@pytest.mark.parametrize(
    ("observation", "kind", "low"),
    [("categorical", MultiDiscrete, -1), ("rgb", Box, 0), ("rgb_first_person", Box, 0)],
)
def test_navix_shows_categories_or_pixels(observation, kind, low):
    env, params = environments.make("navix::Navix-Empty-5x5-v0", observation=observation)
    space = env.observation_space(params)
    assert type(space) is kind
    assert space.low == low
    first, _ = env.reset(jax.random.key(0), params)
    assert (first.shape, first.dtype) == (space.shape, space.dtype)
    assert space.contains(first)


@pytest.mark.parametrize("suite", [suite for suite in SUITES if suite != "memory"])
def test_the_closest_names_are_told(suite):
    if not SUITES[suite].installed:
        pytest.skip(f"needs the extra {SUITES[suite].extra}")
    name = environments.names(suite)[0]
    with pytest.raises(ValueError, match=f"unknown {suite} environment") as caught:
        environments.make(f"{suite}::{name}x")
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("navix::Navix-Empty-5x5-v0", {"max_step": 3}, "the closest are: max_steps"),
        ("navix::Navix-Empty-5x5-v0", {"max_steps": 0}, "max_steps must be an integer"),
        ("navix::Navix-Empty-5x5-v0", {"observation": "rgbb"}, "the closest are: rgb"),
        ("navix::Navix-Empty-5x5-v0", {"observation": 3}, "unknown navix observation '3'"),
        ("xminigrid::MiniGrid-Empty-5x5", {"view_size": 4}, "view_size must be odd, got 4"),
        ("xminigrid::MiniGrid-Empty-5x5", {"height": 0}, "height must be an integer"),
        ("xminigrid::MiniGrid-Empty-6x6", {"height": 5}, "height must be an integer of at lea"),
        ("xminigrid::MiniGrid-MemoryS8", {"width": 3}, "width must be an integer of at least"),
        ("xminigrid::MiniGrid-MemoryS8", {"render_mode": "x"}, "unknown parameter of xminigrid::"),
        ("xminigrid::XLand-MiniGrid-R1-9x9", {"grid_type": "foo"}, "RuntimeError: Unknown grid"),
        ("brax::ant", {"episode_lenght": 3}, "the closest are: episode_length"),
        ("brax::swimmer", {}, "brax::swimmer is left out"),
        ("brax::ant", {"use_contact_forces": True}, "NotImplementedError: use_contact_forces not"),
        ("brax::ant", {"ctrl_cost_weight": float("nan")}, "ctrl_cost_weight must be finite"),
        ("brax::ant", {"backend": "sprin"}, "unknown brax backend 'sprin'; the closest are: sprin"),
        ("craftax::Craftax-Symbolic-v1", {"god_mode": 3}, "god_mode must be true or false"),
        ("craftax::Craftax-Classic-Symbolic-v1", {"day_length": 0}, "}: ZeroDivisionError: div"),
        ("jumanji::Snake-v1", {"num_rows": 0}, "num_rows must be an integer"),
        ("jumanji::Maze-v0", {"generator": 3}, "made with {'generator': 3}: AttributeError: 'int'"),
        ("jumanji::Connector-v3", {}, "9,765,625 combinations"),
        ("jumanji::Sokoban-v0", {}, "give it a generator"),
        ("gymnasium::CartPole-v1", {"max_episode_steps": 0}, "must be an integer"),
        ("gymnasium::CartPole-v1", {"foo": 0}, "unknown parameter of gymnasium::CartPole-v1"),
        (
            "gymnasium::CartPole-v1",
            {"render_mode": "human"},
            "unknown parameter of gymnasium::",
        ),
        ("gymnasium::Pendulum-v1", {"g": float("nan")}, "g must be finite, got nan"),
        ("ale::Pong-v5", {"mode": 99}, "cannot be made with {'mode': 99}: RuntimeError: Invalid"),
        ("ale::Pong-v5", {"render_mode": "human"}, "unknown parameter of ale::Pong-v5"),
        (
            "popgym::RepeatPreviousEasy",
            {"k": 100},
            "made with {'k': 100}: AssertionError: k",
        ),
        ("minigrid::MiniGrid-Empty-5x5-v0", {"observation_key": "picture"}, "'image'"),
        ("minigrid::MiniGrid-Empty-5x5-v0", {"max_steps": -5}, "max_steps must be an integer"),
        ("minigrid::MiniGrid-Empty-5x5-v0", {"agent_view_size": 4}, "agent_view_size must be odd"),
        ("minigrid::MiniGrid-Empty-5x5-v0", {"agent_view_size": 1}, "an integer of at least 3"),
        ("minigrid::MiniGrid-Empty-5x5-v0", {"tile_size": 8}, "unknown parameter of minigrid::"),
        ("minigrid::MiniGrid-MemoryS7-v0", {"size": 2}, "made with {'size': 2}: AssertionError"),
    ],
)
def test_bad_parameters_are_refused(name, params, words):
    if not SUITES[name.partition("::")[0]].installed:
        pytest.skip("needs its extra")
    with pytest.raises(ValueError, match=r".") as caught:
        environments.make(name, **params)
    assert words in str(caught.value)


@pytest.mark.parametrize("suite", SUITES)
def test_a_parameter_called_name_is_unknown_like_any_other(suite):
    if not SUITES[suite].installed:
        pytest.skip("needs its extra")
    name = f"{suite}::{environments.names(suite)[0]}"
    with pytest.raises(ValueError, match=rf"unknown parameter of {name}, 'name'"):
        environments.make(name, name="x")


@pytest.mark.extra("minigrid")
def test_a_minigrid_agent_sees_as_far_as_it_is_told():
    name = "minigrid::MiniGrid-DoorKey-5x5-v0"
    env, params = environments.make(name, agent_view_size=3, see_through_walls=True)
    assert env.observation_space(params).shape == (3, 3, 3)


@pytest.mark.parametrize("suite", [suite for suite in SUITES if SUITES[suite].packages])
def test_a_missing_package_names_the_extra(suite, monkeypatch):
    package, extra = SUITES[suite].packages[0], SUITES[suite].extra
    for module in [package, *sys.modules]:
        if module.partition(".")[0] == package:
            monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, SUITES[suite].module, raising=False)
    with pytest.raises(ModuleNotFoundError, match=re.escape(install_command(extra))):
        environments.make(f"{suite}::anything")
    assert not SUITES[suite].installed


def test_every_suite_has_its_extra():
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for name, suite in SUITES.items():
        if suite.packages:
            assert suite.extra in extras
            assert name in extras
            assert name in extras["all-envs"][0]
