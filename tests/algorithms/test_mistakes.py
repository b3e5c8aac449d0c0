"""Mistakes of a first script, each of which is met by a sentence that says what to write."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest

from memorax import environments
from memorax.algorithms import PPO, PPOConfig
from memorax.networks import RNN, FeatureExtractor, Network, heads

TASK = "memory::MemoryChain"


def network(head):
    return Network(
        FeatureExtractor(observation_extractor=nn.Dense(4)), RNN(cell=nn.GRUCell(features=4)), head
    )


def agent(env, env_params, head):
    config = PPOConfig(num_envs=4, num_steps=4, num_minibatches=1)
    actor, critic = network(head), network(heads.VNetwork())
    return PPO(config, env, env_params, actor, critic, optax.adam(1e-3))


@pytest.fixture
def ppo(as_a_user):
    return agent(*environments.make(TASK), heads.Categorical(action_dim=2))


def test_the_pair_of_make_is_to_be_unpacked(as_a_user):
    with pytest.raises(ValueError, match=r"write env, env_params = memorax.environments.make"):
        agent(environments.make(TASK), None, heads.Categorical(action_dim=2))


def test_a_head_that_values_is_none_that_acts(as_a_user):
    message = r"such as Categorical\(action_dim=2\), got VNetwork, which returns an array of shape"
    with pytest.raises(ValueError, match=message):
        agent(*environments.make(TASK), heads.VNetwork())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda ppo: ppo.init(0),
            r"PPO.init: key must be a key, such as jax.random.key\(0\), got 0",
        ),
        (
            lambda ppo: ppo.train({"params": 1}, jax.random.key(0), 8),
            "PPO.train: key .* got dict; the arguments are key, state, num_steps",
        ),
        (lambda ppo: ppo.evaluate(None, {}, 8), "PPO.evaluate: key .* key, state, num_episodes"),
    ],
)
def test_what_is_no_key_is_refused_with_the_order_of_arguments(call, message, ppo):
    with pytest.raises(ValueError, match=message):
        call(ppo)


@pytest.mark.parametrize("make_key", [jax.random.key, jax.random.PRNGKey])
def test_keys_of_either_kind_are_taken(make_key, ppo):
    jax.eval_shape(ppo.init, make_key(0))
    jax.eval_shape(jax.vmap(ppo.init), jax.random.split(make_key(0), 2))


def test_observations_of_another_width_are_told_with_both_widths(as_a_user):
    policy = network(heads.VNetwork())
    params = policy.init(jax.random.key(0), jnp.zeros((2, 3, 5)))
    message = (
        "feature_extractor/observation_extractor reads 7 features, and its parameters were made "
        r"for 5: .* got observation of shape \(2, 3, 7\)"
    )
    with pytest.raises(ValueError, match=message):
        policy.apply(params, jnp.zeros((2, 3, 7)))
