from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax.environments import (
    Box,
    ClipReward,
    Discrete,
    NormalizeReward,
    ScaleReward,
    StickyAction,
)
from memorax.environments.memory import StatelessPendulum
from memorax.environments.memory.task import Task
from memorax.environments.rewards import as_reward
from tests.algorithms.agents import make_agent, make_dqn, mlp_torso
from tests.algorithms.tasks import Counting


@dataclass(frozen=True)
class Echo(Task):
    """Earns the action that was done, less 2; ends after 5 steps."""

    def begin(self, key, params):
        return jnp.zeros(1), jnp.int32(0)

    def advance(self, key, state, action, params):
        state = state + 1
        reward = action.astype(jnp.float32) - 2
        return jnp.zeros(1), state, reward, jnp.bool_(False), state == 5

    def observation_space(self, params):
        return Box(0.0, 0.0, (1,))

    def action_space(self, params):
        return Discrete(1_000)


def rewards(env, actions):
    @jax.jit
    def run(key):
        _, state = env.reset(key, None)

        def step(state, at_time):
            key, action = at_time
            _, state, reward, *_ = env.step(key, state, action, None)
            return state, reward

        keys = jax.random.split(key, len(actions))
        return jax.lax.scan(step, state, (keys, jnp.asarray(actions, jnp.int32)))[1]

    return np.asarray(run(jax.random.key(0)))


def test_sticky_actions_are_the_previous_one_as_often_as_asked_for_but_never_first():
    actions = np.arange(1, 1_000)
    done = rewards(StickyAction(Echo(), 0.25), actions) + 2
    first = np.arange(len(actions)) % 5 == 0
    np.testing.assert_array_equal(done[first], actions[first])
    again = done[~first] < actions[~first]
    assert 0.2 < again.mean() < 0.3
    sticks = np.flatnonzero(~first)[again]
    np.testing.assert_array_equal(done[sticks], done[sticks - 1])
    np.testing.assert_array_equal(rewards(StickyAction(Echo(), 0.0), actions) + 2, actions)


@pytest.mark.parametrize(
    ("env", "action"),
    [(Echo(), 1.7), (Echo(), True), (Echo(), np.int64(2**32)), (StatelessPendulum(), 0.5)],
)
def test_to_stick_makes_no_action_of_what_is_none(env, action, as_a_user):
    env = StickyAction(env)
    _, state = env.reset(jax.random.key(0), None)
    with pytest.raises(ValueError, match=f"{env.name}: the action must lie in"):
        env.step(jax.random.key(1), state, action, None)


def test_a_choice_that_there_is_not_is_met_where_the_previous_one_would_stick():
    assert np.isnan(rewards(StickyAction(Echo(), 1.0), [3, 1_000])).tolist() == [False, True]


def test_rewards_are_scaled_and_clipped(as_a_user):
    np.testing.assert_array_equal(rewards(ScaleReward(Echo(), 0.5), [0, 1, 7]), [-1, -0.5, 2.5])
    np.testing.assert_array_equal(rewards(ClipReward(Echo()), [0, 2, 7]), [-1, 0, 1])
    at_least = ClipReward(Echo(), 0, np.inf)
    np.testing.assert_array_equal(rewards(at_least, [0, 2, 7]), [0, 0, 5])
    huge = ClipReward(ScaleReward(Echo(), 2**40), 0, 2**42)
    np.testing.assert_array_equal(rewards(huge, [0, 3, 7]), [0, 2**40, 2**42])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: StickyAction(Echo(), -0.1), "probability must be a number from 0 to 1"),
        (
            lambda: ScaleReward(Echo(), 0.0),
            r"must be a number from 1.17549e-38 to 3.40282e\+38",
        ),
        (lambda: ScaleReward(Echo(), 1e-50), "factor must be a number from"),
        (lambda: ScaleReward(Echo(), 1e39), "factor must be a number from"),
        (lambda: ClipReward(Echo(), 1.0, 1.0), "low must be below high"),
        (lambda: ClipReward(Echo(), None, 1), "low must be a number from .*, got None"),
        (lambda: ClipReward(Echo(), "a", "b"), "low must be a number from .*, got 'a'"),
        (lambda: ClipReward(Echo(), -1.0, True), "high must be a number from .*, got True"),
        (lambda: ClipReward(Echo(), np.inf), "low must be a number from .*, got inf"),
    ],
)
def test_what_cannot_be_wrapped_is_refused(make, words, as_a_user):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("reward", [jnp.ones(1), np.float64(1), 1, True])
def test_a_reward_that_is_a_number_is_taken_in_whatever_it_comes(reward):
    assert as_reward("Task", reward).shape == ()
    assert as_reward("Task", reward) == 1


@pytest.mark.parametrize("reward", [None, "1", jnp.ones(2), [1.0, 2.0], jax.random.key(0)])
def test_a_reward_that_is_no_number_is_refused_by_the_task(reward):
    with pytest.raises(ValueError, match="Task: the reward must be a number, got "):
        as_reward("Task", reward)


@pytest.mark.parametrize(
    ("wrap", "changed"),
    [
        (lambda env: ClipReward(env, 0.0, 0.25), 5 * 0.25),
        (lambda env: ScaleReward(ClipReward(env, 0.0, 0.25), 2.0), 5 * 0.5),
        (NormalizeReward, None),
    ],
)
@pytest.mark.parametrize("make", [make_agent, make_dqn])
def test_returns_are_the_tasks_own_and_agents_learn_from_changed_rewards(make, wrap, changed):
    agent = make(mlp_torso(4), env=wrap(Counting()))
    state, metrics = agent.train(jax.random.key(1), agent.init(jax.random.key(0)), 64)
    ended = metrics["num_episodes"] > 0
    np.testing.assert_array_equal(metrics["episode_return"][ended], 5.0)
    if changed is None:
        assert not np.isclose(metrics["episode_changed_return"][ended], 5.0).any()
    else:
        np.testing.assert_allclose(metrics["episode_changed_return"][ended], changed)
        assert np.unique(state.timestep.reward).max() <= changed / 5
    report = agent.evaluate(jax.random.key(2), state, 3)
    np.testing.assert_array_equal(report.episode_returns, 5.0)


def test_without_a_change_there_is_one_return_alone():
    agent = make_agent(mlp_torso(4), env=Counting())
    metrics = jax.eval_shape(
        lambda key: agent.train(key, agent.init(key), 64)[1], jax.random.key(0)
    )
    assert "episode_changed_return" not in metrics
