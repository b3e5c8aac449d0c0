"""Measure how far back memories reach before and after training, and draw it."""

from pathlib import Path

import flax.linen as nn
import jax
import optax
import tyro

from memorax import environments
from memorax.algorithms import PPO, PPOConfig
from memorax.networks import (
    RNN,
    FeatureExtractor,
    LRUCell,
    LRUConfig,
    Memoroid,
    Network,
    heads,
    inspect,
)

TORSOS = {
    "GRU": RNN(cell=nn.GRUCell(features=32)),
    "LRU": Memoroid(cell=LRUCell(config=LRUConfig(features=32, hidden_dim=32))),
}


def main(total_steps: int = 100_000, output: Path = Path("horizons.png")) -> dict:
    env, env_params = environments.make("memory::MemoryChain", memory_length=20)
    observations = jax.random.normal(jax.random.key(0), (4, 64, 3))  # (batch, time, ...)
    horizons = {}
    for name, torso in TORSOS.items():

        def network(head, torso=torso):
            return Network(FeatureExtractor(observation_extractor=nn.Dense(32)), torso, head)

        actor, critic = network(heads.Categorical(action_dim=2)), network(heads.VNetwork())
        config = PPOConfig(num_envs=16, num_steps=64)
        agent = PPO(config, env, env_params, actor, critic, optax.adam(2e-3))
        state = agent.init(jax.random.key(1))
        params = state.params["actor"]
        horizons[name] = inspect.memory_horizon(actor, params, observations)
        if name == "GRU":
            print(inspect.summary(actor, params))
        state, _ = agent.train(jax.random.key(2), state, total_steps)
        params = state.params["actor"]
        horizons[f"{name}, trained"] = inspect.memory_horizon(actor, params, observations)
    for name, horizon in horizons.items():
        print(f"{name}: {horizon[20] / horizon.max():.1e} of the largest gradient 20 steps back")
    inspect.plot_memory_horizon(horizons, output)
    return horizons


if __name__ == "__main__":
    tyro.cli(main)
