import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from memorax.algorithms import PPO, PPOConfig
from memorax.environments import (
    NormalizeObservation,
    NormalizeReward,
    RecordEpisodeStatistics,
    Vectorize,
)
from memorax.environments.wrappers.running_statistics import COPIES, MOST_COUNTED, RunningStatistics
from tests.algorithms.agents import (
    make_networks,
    mlp_torso,
)
from tests.environments.test_observation_wrappers import Walking, play


def test_observations_are_normalised_by_all_that_was_seen():
    shown, final, _ = play(NormalizeObservation(Walking()))
    plain, plain_final, _ = play(Walking())
    seen = [plain[0]]
    np.testing.assert_allclose(shown[0], 0)
    for step in range(9):
        seen.append(plain_final[step])
        expected = (plain_final[step] - np.mean(seen, 0)) / np.std(seen, 0)
        np.testing.assert_allclose(final[step], expected, rtol=1e-4)
        if step % 4 == 3:
            seen.append(plain[step + 1])
            expected = (plain[step + 1] - np.mean(seen, 0)) / np.std(seen, 0)
        np.testing.assert_allclose(shown[step + 1], expected, rtol=1e-4)
    assert (np.abs(play(NormalizeObservation(Walking(), clip=0.1))[0]) <= 0.1 + 1e-6).all()


def test_rewards_are_divided_by_the_deviation_of_the_discounted_return():
    _, _, normalised = play(NormalizeReward(Walking(), gamma=0.9))
    _, _, plain = play(Walking())
    returns, total = [], 0.0
    for step in range(9):
        total = 0.9 * total + plain[step]
        returns.append(total)
        deviation = np.std(returns) if step else 1.0
        np.testing.assert_allclose(normalised[step], plain[step] / deviation, rtol=1e-4)
        if step % 4 == 3:
            total = 0.0


def test_copies_have_the_statistics_of_all_that_counted():
    values = np.random.default_rng(0).normal(3, 2, (4, 7, 2)).astype(np.float32)
    counted = np.random.default_rng(1).random((4, 7)) < 0.6

    def of_copy(values, counted):
        statistics = RunningStatistics.empty((2,))
        for value, counts in zip(values, counted, strict=True):
            statistics = statistics.updated(value, counts)
        return statistics

    shared = jax.vmap(of_copy, axis_name=COPIES)(values, counted)
    for copy in range(4):
        statistics = jax.tree.map(lambda leaf, copy=copy: leaf[copy], shared)
        assert statistics.count == counted.sum()
        np.testing.assert_allclose(statistics.mean, values[counted].mean(0), rtol=1e-5)
        np.testing.assert_allclose(statistics.deviation, values[counted].std(0), rtol=1e-5)


@pytest.mark.parametrize("count", [MOST_COUNTED, 2**31 - 1])
def test_a_copy_may_see_more_than_is_counted(count):
    statistics = RunningStatistics(jnp.float32(3), jnp.float32(4 * count), jnp.int32(count))
    # Values of the same mean and deviation, 3 and 2.
    values = jnp.tile(jnp.array([1.0, 5.0]), 50_000)

    def see(old, value):
        return old.updated(value), None

    after, _ = jax.lax.scan(see, statistics, values)
    assert after.count == MOST_COUNTED
    np.testing.assert_allclose(after.mean, 3, rtol=1e-4)
    np.testing.assert_allclose(after.deviation, 2, rtol=1e-3)


def test_an_evaluation_is_held_to_the_statistics_of_training_and_tells_the_tasks_rewards():
    env = NormalizeReward(NormalizeObservation(Walking()))
    actor, critic = make_networks(mlp_torso(4), Walking().action_space(None))
    config = PPOConfig(num_envs=4, num_steps=8, num_minibatches=2)
    agent = PPO(config, env, None, actor, critic, optax.adam(1e-3))
    state, _ = agent.train(jax.random.key(1), agent.init(jax.random.key(0)), 64)
    assert (agent.evaluate(jax.random.key(2), state, 3).episode_returns == 1 + 2 + 3 + 4).all()

    evaluated = Vectorize(RecordEpisodeStatistics(agent._env_for_evaluation(state.env_state)), 3)
    first, env_state = evaluated.reset(jax.random.key(0), None)
    second, *_ = evaluated.step(jax.random.key(1), env_state, jnp.zeros(3, jnp.int32), None)
    # Every copy saw 0, 1, 2, 3, 4 equally often, but for what the latest episode is short of.
    np.testing.assert_allclose(first[:, 0], -np.sqrt(2), atol=0.15)
    np.testing.assert_allclose(second[:, 0] - first[:, 0], np.sqrt(0.5), atol=0.05)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: NormalizeObservation(Walking(), clip=-1.0), "clip must be a number from 0 to 3.4"),
        (lambda: NormalizeReward(Walking(), clip=1e39), "clip must be a number from 0 to 3.4"),
        (lambda: NormalizeReward(Walking(), gamma=2.0), "gamma must be a number from 0 to 1"),
    ],
)
def test_what_cannot_be_normalised_is_refused(make, words, as_a_user):
    with pytest.raises(ValueError, match=words):
        make()
