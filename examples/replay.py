"""Learn action values from a replay of sequences: DQN, or R2D2 with its burn-in and priorities."""

from typing import Literal

import flax.linen as nn
import jax
import optax
import tyro

from memorax import environments
from memorax.algorithms import DQN, DQNConfig, R2D2Config
from memorax.networks import FeatureExtractor, LRUCell, LRUConfig, Memoroid, Network, heads

CONFIGS = {
    "dqn": DQNConfig(num_steps=16, sequence_length=16, learning_starts=1_000),
    "r2d2": R2D2Config(
        num_steps=16,
        sequence_length=32,
        burn_in_length=16,  # the first half only brings the carry up to date
        batch_size=32,
        gamma=0.99,
        target_update_period=100,
        learning_starts=1_000,
    ),
}


def main(total_steps: int = 100_000, algorithm: Literal["dqn", "r2d2"] = "r2d2") -> float:
    env, env_params = environments.make("memory::MemoryChain", memory_length=10)
    network = Network(
        feature_extractor=FeatureExtractor(
            observation_extractor=nn.Sequential((nn.Dense(64), nn.relu)),
        ),
        torso=Memoroid(cell=LRUCell(config=LRUConfig(features=64, hidden_dim=64))),
        head=heads.DiscreteQNetwork(action_dim=env.action_space(env_params).n, dueling=True),
    )
    optimizer = optax.chain(optax.clip_by_global_norm(10.0), optax.adam(1e-3))
    agent = DQN(CONFIGS[algorithm], env, env_params, network, optimizer)

    state = agent.init(jax.random.key(0))
    mean = float("nan")
    for piece in range(4):  # training goes on where the state is
        state, _ = agent.train(jax.random.key(1 + piece), state, -(-total_steps // 4))
        mean = float(agent.evaluate(jax.random.key(0), state, 128).episode_returns.mean())
        print(f"{algorithm}: {piece + 1} of 4 pieces, return {mean:.2f}")
    return mean


if __name__ == "__main__":
    tyro.cli(main)
