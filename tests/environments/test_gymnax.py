import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax import environments
from memorax.environments import (
    Box,
    ClipAction,
    Discrete,
    FlattenObservation,
    RecordEpisodeStatistics,
    Vectorize,
)


def play(env, params, num_steps, key=0, action=None):
    """Step an environment with random or constant actions; return what every step returned."""
    space = env.action_space(params)

    def step(state, key):
        action_key, step_key = jax.random.split(key)
        shape = (env.num_envs,) if isinstance(env, Vectorize) else ()
        if action is not None:
            chosen = jnp.full(shape + jnp.shape(action), action)
        elif isinstance(space, Discrete):
            chosen = jax.random.randint(action_key, shape, 0, space.n)
        else:
            chosen = jax.random.uniform(action_key, shape + space.shape, minval=-3, maxval=3)
        observation, state, *rest = env.step(step_key, state, chosen, params)
        return state, (observation, *rest)

    reset_key, key = jax.random.split(jax.random.key(key))
    first, state = env.reset(reset_key, params)
    _, steps = jax.lax.scan(step, state, jax.random.split(key, num_steps))
    return first, steps


def test_parameters_are_set_by_name():
    _, params = environments.make("gymnax::MemoryChain-bsuite", memory_length=20)
    assert params.memory_length == 20
    env, params = environments.make("gymnax::MemoryChain-bsuite", num_bits=3)
    assert env.observation_space(params).shape == (5,)
    assert environments.make("gymnax::CartPole-v1", gravity=-9.8)[1].gravity == -9.8
    assert environments.make("gymnax::UmbrellaChain-bsuite", n_distractor=0)


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("gymnax::MemoryChian-bsuite", {}, ["MemoryChian-bsuite", "MemoryChain-bsuite"]),
        ("gymnaks::CartPole-v1", {}, ["gymnaks", "gymnax"]),
        ("CartPole-v1", {}, ["suite::name", "CartPole-v1"]),
        ("gymnax::MemoryChain-bsuite", {"memory_lenght": 3}, ["memory_lenght", "memory_length"]),
        ("gymnax::MemoryChain-bsuite", {"memory_length": 2.5}, ["memory_length", "integer", "2.5"]),
        ("gymnax::MemoryChain-bsuite", {"memory_length": 0}, ["memory_length", "at least 1", "0"]),
        (
            "gymnax::MemoryChain-bsuite",
            {"memory_length": -5},
            ["memory_length", "at least 1", "-5"],
        ),
        ("gymnax::MemoryChain-bsuite", {"num_bits": 0}, ["num_bits", "at least 1", "0"]),
        ("gymnax::MemoryChain-bsuite", {"num_bits": "few"}, ["num_bits", "integer", "few"]),
        ("gymnax::CartPole-v1", {"gravity": "low"}, ["gravity", "number", "low"]),
        ("gymnax::CartPole-v1", {"gravity": float("nan")}, ["gravity", "finite", "nan"]),
        ("gymnax::CartPole-v1", {"tau": float("inf")}, ["tau", "finite", "inf"]),
        ("gymnax::CartPole-v1", {"name": "x"}, ["unknown parameter", "'name'"]),
        ("gymnax::BernoulliBandit-misc", {"reward_prob": True}, ["reward_prob", "number", "True"]),
        (
            "gymnax::MetaMaze-misc",
            {"maze_size": 4},
            ["gymnax::MetaMaze-misc cannot be made with {'maze_size': 4}: AssertionError"],
        ),
        (
            "gymnax::UmbrellaChain-bsuite",
            {"n_distractor": -1},
            ["cannot be made with {'n_distractor': -1}: TypeError"],
        ),
    ],
)
def test_what_does_not_exist_is_refused_with_the_closest(name, params, words):
    with pytest.raises(ValueError, match=r".") as caught:
        environments.make(name, **params)
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


def test_a_time_limit_is_told_from_a_termination():
    env, params = environments.make("gymnax::Pendulum-v1", max_steps_in_episode=5)
    _, (_, _, terminated, truncated, _) = play(env, params, 12)
    assert not terminated.any()
    assert np.flatnonzero(truncated).tolist() == [4, 9]
    env, params = environments.make("gymnax::CartPole-v1")
    _, (_, _, terminated, truncated, _) = play(env, params, 60, action=1)
    assert terminated.any()
    assert not truncated.any()


def test_the_true_last_observation_survives_the_reset():
    env, params = environments.make("gymnax::Pendulum-v1", max_steps_in_episode=5)
    unlimited = environments.make("gymnax::Pendulum-v1", max_steps_in_episode=500)[1]
    _, (limited_observation, _, _, truncated, info) = play(env, params, 5)
    _, (true_observation, *_) = play(env, unlimited, 5)
    assert truncated[-1]
    np.testing.assert_allclose(info["final_observation"], true_observation, rtol=1e-6)
    np.testing.assert_array_equal(limited_observation[:-1], info["final_observation"][:-1])
    assert np.abs(limited_observation[-1] - true_observation[-1]).max() > 1e-3


def test_spaces_are_our_own():
    env, params = environments.make("gymnax::Pendulum-v1")
    space = env.action_space(params)
    assert isinstance(space, Box)
    assert space.shape == (1,)
    env, params = environments.make("gymnax::CartPole-v1")
    assert env.action_space(params) == Discrete(2)


def test_a_name_that_is_no_string_is_refused(as_a_user):
    with pytest.raises(ValueError, match=r"got int; others have a name .* 'suite::name'"):
        environments.make(123)


def test_an_integer_is_taken_where_any_is():
    env, params = environments.make("gymnax::BernoulliBandit-misc", reward_prob=1)
    assert isinstance(params.reward_prob, float)
    _, steps = play(env, params, 2)
    assert np.isfinite(steps[1]).all()


# Without its images, which it loads from the network, one of them cannot be made.
@pytest.mark.parametrize("name", sorted({*environments.names("gymnax")} - {"MNISTBandit-bsuite"}))
def test_what_is_shown_is_of_the_dtype_that_is_told(name):
    env, params = environments.make(f"gymnax::{name}")
    space = env.observation_space(params)
    shown, _ = jax.eval_shape(env.reset, jax.random.key(0), params)
    assert shown.dtype == (space.dtype if isinstance(space, Box) else jnp.int32)


def test_where_both_a_limit_and_a_termination_end_an_episode_it_is_a_termination():
    env, params = environments.make("gymnax::DeepSea-bsuite")
    _, (_, _, terminated, truncated, _) = play(env, params, 9, action=1)
    assert np.flatnonzero(terminated).tolist() == [7]
    assert not truncated.any()


def test_a_gymnax_environment_is_adapted_and_others_are_refused(as_a_user):
    import gymnax

    env = environments.adapt(gymnax.make("CartPole-v1")[0])
    assert environments.adapt(env) is env
    assert env.name == "CartPole-v1"
    with pytest.raises(ValueError, match=r"Environment, a gymnax environment, or a .* got int"):
        environments.adapt(3)


def test_seeds_reproduce():
    env, params = environments.make("gymnax::MemoryChain-bsuite")
    envs = Vectorize(env, 4)
    first, again, other = (play(envs, params, 10, key=key)[1][0] for key in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (np.asarray(first) != other).any()


@pytest.mark.parametrize(
    ("name", "size"), [("gymnax::FrozenLake-misc", 16), ("gymnax::Catch-bsuite", 50)]
)
def test_observations_are_flattened_to_vectors(name, size):
    env, params = environments.make(name)
    env = FlattenObservation(env)
    space = env.observation_space(params)
    assert space.shape == (size,)
    first, (observation, _, _, _, info) = play(env, params, 3)
    assert first.shape == (size,)
    assert observation.shape == info["final_observation"].shape == (3, size)


def test_an_integer_is_shown_one_hot():
    env, params = environments.make("gymnax::FrozenLake-misc")
    plain, flat = play(env, params, 8), play(FlattenObservation(env), params, 8)
    np.testing.assert_array_equal(np.argmax(flat[1][0], -1), plain[1][0])
    np.testing.assert_array_equal(flat[1][0].sum(-1), 1)


def test_a_choice_that_there_is_not_is_refused_or_earns_no_number(as_a_user):
    env, params = environments.make("gymnax::CartPole-v1")
    _, state = env.reset(jax.random.key(0), params)
    for action in (-1, 2, jnp.float32(0.5), jnp.zeros(1, jnp.int32)):
        with pytest.raises(ValueError, match=r"CartPole-v1: the action must lie in Discrete"):
            env.step(jax.random.key(0), state, action, params)
    for action, earns in ((-1, np.nan), (1, 1), (2, np.nan)):
        reward = jax.jit(env.step)(jax.random.key(0), state, action, params)[2]
        np.testing.assert_array_equal(reward, earns)


def test_actions_are_clipped_to_the_bounds_and_no_further():
    env, params = environments.make("gymnax::MountainCarContinuous-v0")
    clipped = play(ClipAction(env), params, 3, action=jnp.array([7.0]))
    at_bound = play(env, params, 3, action=jnp.array([1.0]))
    inside = play(env, params, 3, action=jnp.array([0.5]))
    np.testing.assert_array_equal(clipped[1][1], at_bound[1][1])
    np.testing.assert_array_equal(
        play(ClipAction(env), params, 3, action=jnp.array([0.5]))[1][1], inside[1][1]
    )


def test_episode_statistics_are_sums_over_each_episode():
    env, params = environments.make("gymnax::CartPole-v1")
    envs = Vectorize(RecordEpisodeStatistics(env), 3)
    _, (_, reward, terminated, truncated, info) = play(envs, params, 60)
    ended = np.asarray(terminated | truncated)
    assert ended.sum() > 3
    for row in range(3):
        total, length = 0.0, 0
        for step in range(60):
            total, length = total + float(reward[step, row]), length + 1
            assert info["episode_return"][step, row] == total
            assert info["episode_length"][step, row] == length
            if ended[step, row]:
                total, length = 0.0, 0


def test_copies_are_independent(as_a_user):
    env, params = environments.make("gymnax::MemoryChain-bsuite", memory_length=3)
    first, (observation, reward, terminated, truncated, _) = play(Vectorize(env, 64), params, 8)
    assert set(np.unique(first[:, 2])) == {-1, 1}
    assert reward.dtype == jnp.float32
    assert terminated.dtype == truncated.dtype == bool
    assert observation.shape == (8, 64, 3)
    with pytest.raises(ValueError, match=r"Vectorize.num_envs .* at least 1, got 0"):
        Vectorize(env, 0)


def test_a_missing_suite_names_the_extra(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "gymnax", None)
    monkeypatch.delitem(sys.modules, "memorax.environments.suites.gymnax_adapter", raising=False)
    with pytest.raises(ModuleNotFoundError, match=r"memorax-rl\[envs\]"):
        environments.make("gymnax::CartPole-v1")
