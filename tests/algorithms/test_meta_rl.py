import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest

from memorax.algorithms import PPO, PPOConfig
from memorax.environments import Box, Discrete, Environment
from memorax.networks import RNN, FeatureExtractor, Network, RL2Wrapper, heads

PULLS = 16
"""Episodes of a trial, each a single pull of an arm."""


class Bandit(Environment):
    """Two arms, one of which pays nearly always and the other hardly ever.

    Every pull is an episode. After ``PULLS`` of them it is drawn anew which arm pays.
    """

    def reset(self, key, params):
        return jnp.zeros(1), (jax.random.bernoulli(key).astype(jnp.int32), jnp.int32(0))

    def step(self, key, state, action, params):
        arm_key, reward_key = jax.random.split(key)
        good, pulls = state
        probability = jnp.where(action == good, 0.9, 0.1)
        reward = jax.random.bernoulli(reward_key, probability).astype(jnp.float32)
        pulls = (pulls + 1) % PULLS
        drawn = jax.random.bernoulli(arm_key).astype(jnp.int32)
        state = jnp.where(pulls == 0, drawn, good), pulls
        seen = jnp.zeros(1)
        return seen, state, reward, jnp.bool_(True), jnp.bool_(False), {"final_observation": seen}

    def observation_space(self, params):
        return Box(0.0, 0.0, (1,))

    def action_space(self, params):
        return Discrete(2)


def mean_reward(torso, extractors, num_steps):
    """Train; return what a pull brings in the end."""

    def network(head):
        observation = nn.Dense(4)
        extractor = FeatureExtractor(observation_extractor=observation, **extractors)
        return Network(extractor, torso, head)

    agent = PPO(
        PPOConfig(num_envs=32, num_steps=2 * PULLS, num_minibatches=2, gamma=0.95),
        Bandit(),
        None,
        network(heads.Categorical(action_dim=2)),
        network(heads.VNetwork()),
        optax.chain(optax.clip_by_global_norm(0.5), optax.adam(3e-3)),
    )
    state = agent.init(jax.random.key(0))
    _, metrics = agent.train(jax.random.key(1), state, num_steps)
    return float(metrics["episode_return"][-8:].mean())


@pytest.mark.exhaustive
def test_rl2_learns_within_a_trial_what_the_same_network_without_it_cannot():
    torso = RNN(cell=nn.GRUCell(16))
    inputs = {
        "action_extractor": nn.Dense(4),
        "reward_extractor": nn.Dense(4),
        "done_extractor": nn.Dense(4),
        "action_dim": 2,
        "across_episodes": True,
    }
    assert mean_reward(RL2Wrapper(torso, PULLS), inputs, 40_000) > 0.75
    assert abs(mean_reward(torso, {}, 10_000) - 0.5) < 0.06
