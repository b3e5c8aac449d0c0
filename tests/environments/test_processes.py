import os
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax import environments
from memorax.environments import (
    Discrete,
    RecordEpisodeStatistics,
    ShowFinalObservation,
    Vectorize,
    process_failure,
    release,
)
from memorax.environments.holding import hold
from memorax.experiments.cli.reported_errors import hide_reported_errors
from memorax.experiments.run.failure_reports import policy_checked, report_last_checkpoint
from memorax.experiments.run.failures import DivergedError
from memorax.experiments.run.folder import RunFolder

pytestmark = pytest.mark.extra("gymnasium")

KEY = jax.random.key(0)


def counting(**params):
    return environments.make("gymnasium::tests.environments.counting:Counting-v0", **params)[0]


@pytest.fixture
def begun():
    """Return an environment and its state after a reset, released afterwards."""
    env = counting()
    _, state = env.reset(KEY, None)
    yield env, state
    release(state)


def is_alive(process):
    return os.path.exists(f"/proc/{process}")


def act(env, state, action):
    return env.step(KEY, state, jnp.asarray(action), None)


def play(env, actions):
    """Reset and step; return all observations, then rewards, ends and last observations."""
    observation, state = env.reset(KEY, None)
    shown, steps = [observation], []
    for action in actions:
        observation, state, reward, _, truncated, info = act(env, state, action)
        shown.append(observation)
        steps.append((reward, truncated, info["final_observation"]))
    release(state)
    return jax.tree.map(np.asarray, (shown, steps))


def test_an_observation_of_several_parts_stays_one():
    env, _ = environments.make("gymnasium::tests.environments.counting:Several-v0")
    envs = ShowFinalObservation(env)
    space = env.observation_space(None)
    assert list(space) == ["choice", "numbers", "picture"]

    def parts(count):
        numbers = np.float32([count, -count]), np.int32([count, count + 1])
        picture = np.full((6, 5, 3), 50 * count, np.uint8)
        return {"choice": np.int32(count), "numbers": numbers, "picture": picture}

    def check(observation, count):
        jax.tree.map(
            partial(np.testing.assert_array_equal, strict=True),
            jax.tree.map(np.asarray, observation),
            jax.tree.map(np.asarray, parts(count)),
        )

    observation, state = jax.vmap(envs.reset, (0, None))(jax.random.split(KEY, 2), None)
    step = jax.jit(jax.vmap(envs.step, (None, 0, 0, None)))
    check(jax.tree.map(lambda leaf: leaf[1], observation), 0)
    for count in (1, 2, 3, 4, 5, 0):
        observation, state, _, _, truncated, info = step(KEY, state, jnp.zeros(2, int), None)
        check(jax.tree.map(lambda leaf: leaf[1], observation), count)
        check(jax.tree.map(lambda leaf: leaf[0], info["final_observation"]), count or 5)
    assert truncated.all()
    release(state)


def test_episodes_follow_each_other_and_the_last_observation_is_kept():
    env = counting()
    assert env.action_space(None) == Discrete(6)
    assert env.observation_space(None).dtype == jnp.int32
    shown, steps = play(env, [0, 1, 2, 3, 4, 5])
    assert [int(count) for _, count in shown] == [0, 1, 2, 3, 4, 0, 1]
    rewards, truncated, final = zip(*steps, strict=True)
    assert rewards == (0, 1, 2, 10, 11, 12), "the last of several choices runs fastest"
    assert [bool(flag) for flag in truncated] == [False] * 4 + [True, False]
    assert [int(count) for _, count in final] == [1, 2, 3, 4, 5, 1]


@pytest.mark.parametrize(("kind", "sizes"), [("array", 1), ("dictionary", 3), ("tuple", 3)])
def test_the_last_observation_is_kept_of_environments_that_fill_one_array_again(kind, sizes):
    name = "gymnasium::tests.environments.counting:Filling-v0"
    env, _ = environments.make(name, kind=kind, max_episode_steps=3)
    envs = Vectorize(env, 2)
    observation, state = envs.reset(KEY, None)

    def joined(observation):
        return np.concatenate(jax.tree.leaves(observation), axis=-1)

    shown, final = [joined(observation)], []
    for _ in range(4):
        # Side by side in one process, they also share the array.
        observation, state, *_, info = envs.step(KEY, state, jnp.array([0, 1]), None)
        shown.append(joined(observation))
        final.append(joined(info["final_observation"]))
    release(state)
    assert np.shape(shown) == (5, 2, sizes)
    assert np.array(shown)[:, :, 0].T.tolist() == [[0, 1, 2, 0, 1], [0, 2, 4, 0, 2]]
    assert np.array(final)[:, :, 0].T.tolist() == [[1, 2, 3, 1], [2, 4, 6, 2]]
    if sizes == 3:
        assert np.array(final)[:, :, 2].T.tolist() == [[100, 200, 300, 100], [200, 400, 600, 200]]


def test_every_seed_has_processes_of_its_own_and_all_are_stepped_under_scan():
    envs = Vectorize(RecordEpisodeStatistics(counting()), 3)

    def run(key):
        observation, state = envs.reset(key, None)

        def step(state, key):
            observation, state, *_ = envs.step(key, state, jnp.zeros(3, jnp.int32), None)
            return state, observation

        return step(*jax.lax.scan(step, state, jax.random.split(key, 6))[:1], key), observation

    (state, last), first = jax.jit(jax.vmap(run))(jax.random.split(KEY, 2))
    processes = [set(row) for row in np.asarray(first[..., 0]).tolist()]
    assert not processes[0] & processes[1]
    assert os.getpid() not in processes[0] | processes[1]
    assert np.unique(last[..., 1]).tolist() == [2], "seven steps, of which five were an episode"
    np.testing.assert_array_equal(last[..., 0], first[..., 0])
    alive = processes[0] | processes[1]
    assert all(map(is_alive, alive))
    release(state)
    assert not any(map(is_alive, alive))


def test_another_reset_does_not_disturb_what_is_going_on(begun):
    env, state = begun
    _, state, *_ = act(env, state, 0)
    play(env, [0, 0])
    observation, _, _, _, truncated, _ = act(env, state, 0)
    assert observation[1] == 2
    assert not truncated


def test_a_state_used_twice_goes_on_in_a_new_environment(begun):
    env, state = begun
    before, state, *_ = act(env, state, 0)
    taken, later, *_ = act(env, state, 0)
    again, other, reward, _, truncated, info = act(env, state, 5)
    assert truncated
    assert reward == 0
    np.testing.assert_array_equal(info["final_observation"], before)
    assert again[1] == 0
    assert again[0] != taken[0]
    observation, *_ = act(env, later, 0)
    assert observation[1] == 3, "the first use is not disturbed"
    release(other)


def test_a_held_step_is_not_taken(begun):
    env, state = begun
    act(env, hold(state, jnp.bool_(True)), 0)
    observation, _, _, _, truncated, _ = act(env, state, 0)
    assert observation[1] == 1
    assert not truncated


def test_the_last_observation_can_be_shown_as_a_step_of_its_own():
    env = Vectorize(ShowFinalObservation(RecordEpisodeStatistics(counting())), 1)
    shown, steps = play(env, [jnp.zeros(1, jnp.int32)] * 8)
    assert [int(row[0, 1]) for row in shown] == [0, 1, 2, 3, 4, 5, 0, 1, 2]
    assert [bool(truncated[0]) for _, truncated, _ in steps] == [False] * 5 + [True] + [False] * 2


def test_an_action_out_of_range_is_an_error_and_takes_no_step(begun):
    env, state = begun
    for action in (-1, 6):
        with pytest.raises(ValueError, match=r"must lie in Discrete\(n=6\), got"):
            act(env, state, action)
        with pytest.raises(jax.errors.JaxRuntimeError, match=r"must lie in Discrete\(n=6\), got"):
            jax.jit(env.step)(KEY, state, jnp.int32(action), None)
    assert act(env, state, 5)[0][1] == 1


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        ("error", ["Counting-v0 failed", "counting.py", "RuntimeError: three is too much"]),
        ("kill", ["Counting-v0 died (signal 9)"]),
        ("shape", ["Counting-v0: the observation must be int64 of shape (2,), got int64 of shape"]),
    ],
)
def test_a_failure_is_told_in_the_process_s_own_words_and_once(failure, words, caplog):
    hide_reported_errors()
    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        play(counting(failure=failure), [0, 0, 0])
    told = process_failure(caught.value)
    assert told is not None
    assert all(word in told for word in words)
    assert process_failure(RuntimeError("another")) is None
    assert not caplog.records


def test_what_else_fails_in_a_callback_is_logged_as_ever(begun, caplog):
    env, state = begun
    with pytest.raises(jax.errors.JaxRuntimeError):
        jax.jit(env.step)(KEY, state, jnp.int32(-1), None)
    assert [record.name for record in caplog.records] == ["jax._src.callback"]


def paying(**params):
    return environments.make("gymnasium::tests.environments.counting:Paying-v0", **params)[0]


@pytest.mark.parametrize(("reward", "number"), [("array", 1.5), ("scalar", 1.5), ("integer", 2)])
def test_a_reward_that_is_a_number_is_taken_in_whatever_it_comes(reward, number):
    _, steps = play(paying(reward=reward), [0, 0])
    assert [float(reward) for reward, *_ in steps] == [1, number]


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"reward": "none"}, "the reward must be a finite number, got None"),
        ({"reward": "nan"}, "the reward must be a finite number, got nan"),
        ({"reward": "infinite"}, "the reward must be a finite number, got inf"),
        ({"reward": "huge"}, "the reward must be a finite number, got 1e+300"),
        ({"reward": "two"}, "the reward must be a finite number, got [1.0, 1.0]"),
        ({"reward": "text"}, "the reward must be a finite number, got '1.5'"),
        ({"shown": "nan"}, "the observation must be finite, got nan"),
        ({"shown": "infinite"}, "the observation must be finite, got -inf"),
    ],
)
def test_what_no_agent_can_learn_from_is_told_in_one_line_with_its_step(params, words):
    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        play(paying(**params), [0, 0])
    told = process_failure(caught.value)
    assert told is not None
    line = told.splitlines()[0]
    assert line == (
        f"gymnasium::tests.environments.counting:Paying-v0: {words}, in step 2 of an environment"
    )


def test_a_policy_that_is_not_finite_is_reported_as_diverged_with_the_step(begun, tmp_path, caplog):
    env, state = begun
    with (
        pytest.raises(DivergedError) as told,
        report_last_checkpoint("gru", RunFolder(tmp_path)),
        policy_checked("gru", 64, 32),
    ):
        jax.jit(env.step)(KEY, state, jnp.int32(-1), None)
    (line,) = str(told.value).splitlines()
    assert "gru: the policy is not finite between step 64 and 96: " in line
    assert "must lie in Discrete(n=6), got -1" in line
    assert "last good state: no checkpoint yet" in line
    assert not caplog.records
