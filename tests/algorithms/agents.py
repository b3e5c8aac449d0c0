"""Small agents for the tests of algorithms."""

from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from memorax import environments
from memorax.algorithms import (
    DQN,
    PPO,
    PQN,
    SAC,
    TD3,
    DQNConfig,
    PPOConfig,
    PQNConfig,
    SACConfig,
    StreamingActorCritic,
    StreamingActorCriticConfig,
    TD3Config,
)
from memorax.algorithms.acting import Timestep
from memorax.algorithms.transitions import Sequences, window_to_sequences
from memorax.environments import Box, Discrete
from memorax.networks import RNN, FeatureExtractor, Network, RTUCell, RTUConfig, heads
from tests.algorithms.tasks import Counting

# Values are compared in the unit of rewards.
REPLAY = {
    "normalize_rewards": False,
    "num_envs": 4,
    "num_steps": 4,
    "sequence_length": 12,
    "buffer_size": 256,
    "batch_size": 8,
    "learning_starts": 64,
    "gradient_steps": 2,
}
ROLLOUT = {"normalize_rewards": False, "num_envs": 4, "num_steps": 12, "num_minibatches": 2}
CONTINUOUS = Box(-1.0, 2.0, (1,))


def mlp_torso(features=16):
    return nn.Sequential((nn.Dense(features), nn.relu))


def gru_torso(features=16):
    return RNN(cell=nn.GRUCell(features=features))


def make_networks(torso, space, all_extractors=False, critic_torso=None):
    """Return actor and critic, of the same torso unless the critic has its own.

    The policy's kernel is large, unlike the default: a policy that hardly looks at its features
    would hide that they are wrong.
    """
    discrete = isinstance(space, Discrete)
    kernel_init = nn.initializers.orthogonal(1.0)
    if discrete:
        policy = heads.Categorical(action_dim=space.n, kernel_init=kernel_init)
    else:
        policy = heads.Gaussian(action_dim=space.shape[0], kernel_init=kernel_init)

    def network(head, torso):
        extractors = (
            {
                "action_extractor": nn.Dense(4),
                "reward_extractor": nn.Dense(4),
                "done_extractor": nn.Dense(4),
                "action_dim": space.n if discrete else None,
            }
            if all_extractors
            else {}
        )
        extractor = FeatureExtractor(
            observation_extractor=nn.Sequential((nn.Dense(16), nn.relu)), **extractors
        )
        return Network(feature_extractor=extractor, torso=torso, head=head)

    return network(policy, torso), network(heads.VNetwork(), critic_torso or torso)


def make_agent(
    torso,
    env=None,
    env_params=None,
    all_extractors=False,
    optimizer=None,
    critic_torso=None,
    **config,
):
    """Return PPO on ``env``, or on a memory chain whose episodes are shorter than rollouts."""
    if env is None:
        env, env_params = environments.make("gymnax::MemoryChain-bsuite", memory_length=4)
    config = PPOConfig(**{"num_envs": 4, "num_steps": 16, "num_minibatches": 2} | config)
    space = env.action_space(env_params)
    actor, critic = make_networks(torso, space, all_extractors, critic_torso)
    return PPO(config, env, env_params, actor, critic, optimizer or optax.adam(1e-3))


def small_network(torso, head):
    """Return a network that reads observations and previous rewards."""
    extractor = FeatureExtractor(
        observation_extractor=nn.Sequential((nn.Dense(8), nn.tanh)), reward_extractor=nn.Dense(4)
    )
    return Network(feature_extractor=extractor, torso=torso, head=head)


def make_dqn(torso=None, head=None, env=None, config=DQNConfig, optimizer=None, **fields):
    """Return DQN, by default on ``Counting`` with a GRU; ``fields`` are the configuration's."""
    network = small_network(torso or gru_torso(8), head or heads.DiscreteQNetwork(2))
    config = config(**REPLAY | fields)
    return DQN(config, env or Counting(), None, network, optimizer or optax.adam(1e-3))


def make_pqn(torso=None, env=None, optimizer=None, **fields):
    """Return PQN, by default on ``Counting`` with a GRU."""
    network = small_network(torso or gru_torso(8), heads.DiscreteQNetwork(2))
    config = PQNConfig(**ROLLOUT | fields)
    return PQN(config, env or Counting(), None, network, optimizer or optax.adam(1e-3))


def make_sac(torso=None, actor_head=None, critic_head=None, env=None, optimizer=None, **fields):
    """Return SAC, by default on ``Counting`` with a continuous action and GRUs."""
    torso = torso or gru_torso(8)
    actor = small_network(torso, actor_head or heads.SquashedGaussian(1, low=-1.0, high=2.0))
    critic = small_network(torso, critic_head or heads.TwinContinuousQNetwork(hidden_dims=(8,)))
    config = SACConfig(**REPLAY | fields)
    optimizer = optimizer or optax.adam(1e-3)
    return SAC(config, env or Counting(CONTINUOUS), None, actor, critic, optimizer)


def make_td3(torso=None, actor_head=None, critic_head=None, env=None, optimizer=None, **fields):
    """Return TD3, by default on ``Counting`` with a continuous action and GRUs."""
    torso = torso or gru_torso(8)
    kernel_init = nn.initializers.orthogonal(1.0)
    policy = heads.Deterministic(1, low=-1.0, high=2.0, kernel_init=kernel_init)
    actor = small_network(torso, actor_head or policy)
    critic = small_network(torso, critic_head or heads.TwinContinuousQNetwork(hidden_dims=(8,)))
    config, env = TD3Config(**REPLAY | fields), env or Counting(CONTINUOUS)
    return TD3(config, env, None, actor, critic, optimizer or optax.adam(1e-3))


def make_streaming_ac(torso=None, env=None, **fields):
    """Return streaming actor-critic, by default on ``Counting`` with recurrent trace units."""
    torso = torso or RNN(RTUCell(RTUConfig(8, hidden_dim=8)))
    actor, critic = (
        small_network(torso, heads.Categorical(2)),
        small_network(torso, heads.VNetwork()),
    )
    config = StreamingActorCriticConfig(**{"num_steps": 16} | fields)
    return StreamingActorCritic(config, env or Counting(), None, actor, critic)


def perturbed(params, seed=0, scale=0.3):
    """Return parameters away from their initial values, which would hide errors."""
    draw = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: leaf + np.float32(scale) * draw.standard_normal(leaf.shape, np.float32), params
    )


def random_sequences(agent, seed=0):
    """Return sequences as a replay of ``Counting`` may give them, but with random contents."""
    draw = np.random.default_rng(seed)
    batch, time = agent.config.batch_size, agent.config.sequence_length

    def normal(*shape):
        return jnp.asarray(draw.standard_normal(shape), jnp.float32)

    def actions(time):
        if isinstance(agent.env.actions, Discrete):
            return jnp.asarray(draw.integers(2, size=(batch, time)), jnp.int32)
        return jnp.asarray(draw.uniform(-1, 2, (batch, time, 1)), jnp.float32)

    terminated = draw.random((batch, time)) < 0.15
    truncated = ~terminated & (draw.random((batch, time)) < 0.15)
    done = np.concatenate([np.zeros((batch, 1), bool), terminated | truncated], axis=1)
    carry = jax.tree.map(lambda leaf: np.repeat(leaf[:1], batch, 0), agent._initial_carry())
    return Sequences(
        timestep=Timestep(
            normal(batch, time + 1, 2),
            jnp.asarray(done),
            actions(time + 1),
            normal(batch, time + 1),
        ),
        action=actions(time),
        reward=normal(batch, time),
        terminated=jnp.asarray(terminated),
        truncated=jnp.asarray(truncated),
        carry=perturbed(carry, seed),
    )


def random_sample(agent, state):
    """Return what is drawn from an agent's replay, but with random sequences."""

    @jax.jit
    def draw(state):
        replay = agent._replay.add(state.replay, window_to_sequences(state.window, state.timestep))
        return agent._replay.sample(replay, jax.random.key(0))

    return replace(draw(state), sequences=random_sequences(agent))
