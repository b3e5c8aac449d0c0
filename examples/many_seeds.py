"""Train many seeds at once with jax.vmap, and draw their learning curve."""

from pathlib import Path

import flax.linen as nn
import jax
import matplotlib.pyplot as plt
import numpy as np
import optax
import tyro

from memorax import environments
from memorax.algorithms import PQN, PQNConfig
from memorax.networks import RNN, FeatureExtractor, Network, heads


def main(
    total_steps: int = 100_000, num_seeds: int = 5, output: Path = Path("many_seeds.png")
) -> None:
    env, env_params = environments.make("memory::TMazePassive", corridor_length=5)
    network = Network(
        feature_extractor=FeatureExtractor(
            observation_extractor=nn.Sequential((nn.Dense(32), nn.relu)),
        ),
        torso=RNN(cell=nn.GRUCell(features=32)),
        head=heads.DiscreteQNetwork(action_dim=4),
    )
    optimizer = optax.chain(optax.clip_by_global_norm(10.0), optax.adam(1e-3))
    config = PQNConfig(num_steps=32, epsilon_decay_steps=total_steps // 2)
    agent = PQN(config, env, env_params, network, optimizer)

    def train(key):
        init_key, train_key = jax.random.split(key)
        return agent.train(train_key, agent.init(init_key), total_steps)

    _, metrics = jax.vmap(train)(jax.random.split(jax.random.key(0), num_seeds))

    returns = np.asarray(metrics["episode_return"])  # (seeds, updates)
    steps = agent.steps_per_update * np.arange(1, returns.shape[1] + 1)
    figure, axes = plt.subplots(layout="constrained")
    for seed in returns:
        axes.plot(steps, seed, color="tab:blue", alpha=0.3)
    axes.plot(steps, np.median(returns, axis=0), color="tab:blue", label="median of seeds")
    axes.set_xlabel("environment steps")
    axes.set_ylabel("return while training")
    axes.legend()
    figure.savefig(output, dpi=150)
    print(f"{num_seeds} seeds, last returns {returns[:, -1].round(2)}, picture {output}")


if __name__ == "__main__":
    tyro.cli(main)
