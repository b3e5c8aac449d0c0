"""Write a memory task of one's own, and train on it."""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import tyro

from memorax.algorithms import PPO, PPOConfig
from memorax.environments import Box, Discrete
from memorax.environments.memory import Task
from memorax.networks import RNN, FeatureExtractor, Network, heads


@dataclass(frozen=True)
class CountSigns(Task):
    """Signs flash up at random; the last action is to say whether there was an odd number."""

    length: int = 6

    def begin(self, key: Any, params: Any):
        sign = jax.random.bernoulli(key).astype(jnp.int32)
        return self._observe(sign, 0), (sign, jnp.int32(0))  # how many signs, the time

    def advance(self, key: Any, state: Any, action: Any, params: Any):
        count, time = state
        last = time == self.length - 1
        reward = jnp.where(last, jnp.where(action == count % 2, 1.0, -1.0), 0.0)
        sign = jax.random.bernoulli(key).astype(jnp.int32)
        state = (count + sign, time + 1)
        return self._observe(sign, time + 1), state, reward, last, jnp.bool_(False)

    def _observe(self, sign, time):
        return jnp.stack([2.0 * sign - 1, jnp.float32(time == self.length - 1)])

    def observation_space(self, params: Any):
        return Box(-1.0, 1.0, (2,))

    def action_space(self, params: Any):
        return Discrete(2)


def main(total_steps: int = 200_000) -> None:
    def network(head):
        extractor = FeatureExtractor(observation_extractor=nn.Dense(32))
        return Network(extractor, torso=RNN(cell=nn.GRUCell(features=32)), head=head)

    networks = network(heads.Categorical(action_dim=2)), network(heads.VNetwork())
    agent = PPO(PPOConfig(num_steps=64), CountSigns(), None, *networks, optax.adam(2e-3))
    state, _ = agent.train(jax.random.key(1), agent.init(jax.random.key(0)), total_steps)
    report = agent.evaluate(jax.random.key(2), state, 256)
    print(f"return {report.episode_returns.mean():.2f}; guessing earns 0")


if __name__ == "__main__":
    tyro.cli(main)
