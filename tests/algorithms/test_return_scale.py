import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from memorax import environments
from memorax.algorithms import DQN, PQN, DQNConfig, PQNConfig
from memorax.algorithms.return_scale import MOST_COUNTED, ReturnScale
from memorax.environments import ScaleReward
from memorax.networks import FeatureExtractor, Network, heads
from tests.algorithms.agents import gru_torso, make_agent

REWARD = jnp.array([[0.0, 2.0], [3.0, 0.0], [0.0, -1.0], [4.0, 0.0]])
ENDED = jnp.array([[False, False], [True, False], [False, True], [False, False]])
# By hand, with a discount of 0.5: 0 3 | 0 4 and 2 1 -0.5 | 0.
RETURNS = np.array([3.0, 4.0, 2.0, 1.0, -0.5])


def test_the_size_is_the_root_mean_square_of_returns_that_are_not_0():
    scale = ReturnScale.init(2).update(REWARD, ENDED, 0.5)
    np.testing.assert_allclose(scale.size, np.sqrt(np.mean(RETURNS**2)), rtol=1e-6)


def test_the_size_does_not_depend_on_how_steps_are_cut():
    cut = ReturnScale.init(2).update(REWARD[:1], ENDED[:1], 0.5)
    cut = cut.update(REWARD[1:], ENDED[1:], 0.5)
    whole = ReturnScale.init(2).update(REWARD, ENDED, 0.5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), cut, whole)


def test_the_size_is_1_before_the_first_reward():
    scale = ReturnScale.init(2).update(jnp.zeros((4, 2)), ENDED, 0.9)
    assert scale.size == 1
    assert scale.count == 0


@pytest.mark.parametrize("length", [10, 1_000])
def test_a_reward_of_1_at_the_end_has_size_1_however_long_episodes_are(length):
    reward = jnp.zeros((length, 1)).at[-1].set(1.0)
    scale = ReturnScale.init(1).update(reward, reward > 0, 0.99)
    assert scale.size == 1


def test_the_oldest_returns_fade_once_most_are_counted():
    full = ReturnScale(jnp.zeros(1), jnp.float32(100.0), jnp.int32(MOST_COUNTED))
    reward, ended = jnp.ones((1_024, 1)), jnp.ones((1_024, 1), bool)
    scale = jax.lax.fori_loop(0, 8_192, lambda _, scale: scale.update(reward, ended, 0.9), full)
    assert scale.count == MOST_COUNTED
    np.testing.assert_allclose(scale.size, 1.0, atol=0.05)


def test_a_rollout_of_more_returns_than_are_counted_is_all_that_counts(monkeypatch):
    monkeypatch.setattr("memorax.algorithms.return_scale.MOST_COUNTED", 4)
    old = ReturnScale(jnp.zeros(2), jnp.float32(100.0), jnp.int32(4))
    scale = old.update(jnp.full((4, 2), 3.0), jnp.ones((4, 2), bool), 0.9)
    np.testing.assert_allclose(scale.size, 3.0, rtol=1e-6)
    again = scale.update(jnp.full((1, 2), 3.0), jnp.ones((1, 2), bool), 0.9)
    np.testing.assert_allclose(again.size, 3.0, rtol=1e-6)
    assert again.count == 4


def q_network(head):
    """Return a network that reads observations alone, which do not depend on the unit."""
    return Network(
        feature_extractor=FeatureExtractor(observation_extractor=nn.Embed(5, 8)),
        torso=gru_torso(8),
        head=head,
    )


def trained(algorithm, config, factor):
    env, env_params = environments.make("memory::RepeatPreviousEasy")
    network = q_network(heads.DiscreteQNetwork(action_dim=4))
    agent = algorithm(config, ScaleReward(env, factor), env_params, network, optax.adam(1e-3))
    state = agent.init(jax.random.key(0))
    return agent.train(jax.random.key(1), state, 4 * agent.steps_per_update)


@pytest.mark.parametrize(
    ("algorithm", "config"),
    [
        (PQN, PQNConfig(num_envs=4, num_steps=16)),
        (DQN, DQNConfig(num_envs=4, num_steps=8, batch_size=4, learning_starts=32)),
    ],
)
def test_agents_learn_the_same_whatever_the_unit_of_rewards(algorithm, config):
    state, metrics = trained(algorithm, config, 1.0)
    # A power of 2, by which nothing is rounded.
    scaled_state, scaled_metrics = trained(algorithm, config, 2.0**10)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        state.params,
        scaled_state.params,
    )
    np.testing.assert_allclose(
        scaled_metrics["return_scale"], 2.0**10 * metrics["return_scale"], rtol=1e-6
    )


def test_rewards_are_learned_as_they_are_on_request():
    config = PQNConfig(num_envs=4, num_steps=16, normalize_rewards=False)
    state, metrics = trained(PQN, config, 1.0)
    scaled_state, _ = trained(PQN, config, 2.0**10)
    assert "return_scale" not in metrics
    changes = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), state.params, scaled_state.params)
    assert max(jax.tree.leaves(changes)) > 1e-3


def test_a_distribution_over_values_keeps_the_range_in_the_unit_of_rewards():
    env, env_params = environments.make("memory::RepeatPreviousEasy")
    network = q_network(heads.C51QNetwork(action_dim=4, v_min=-1.0, v_max=1.0))
    config = DQNConfig(num_envs=4, num_steps=8, batch_size=4, learning_starts=32)
    agent = DQN(config, env, env_params, network, optax.adam(1e-3))
    _, metrics = jax.eval_shape(
        lambda key: agent.train(key, agent.init(key), agent.steps_per_update), jax.random.key(0)
    )
    assert "return_scale" not in metrics


def test_large_returns_do_not_outweigh_the_policy():
    agent = make_agent(gru_torso())

    def loss(value, learned):
        return agent._value_loss(value, learned, jnp.mean)

    class Learned:
        value = jnp.array([[100.0, -250.0, 30.0]])
        target = jnp.array([[200.0, -100.0, 400.0]])

    class Scaled:
        value = 1_000 * Learned.value
        target = 1_000 * Learned.target

    value = jnp.array([[180.0, -280.0, 35.0]])
    np.testing.assert_allclose(loss(1_000 * value, Scaled), loss(value, Learned), rtol=1e-5)
