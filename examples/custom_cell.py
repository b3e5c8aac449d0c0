"""Write a memory of one's own as an associative operator, and train it.

Two stretches of h' = a h + b combine to one of the same kind. ``Memoroid`` runs that in parallel.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import tyro

from memorax import environments
from memorax.algorithms import PPO, PPOConfig
from memorax.networks import FeatureExtractor, Memoroid, MonoidCell, Network, heads


class GatedSumCell(MonoidCell):
    """h' = a(x) h + W x, with gates a(x) in (0, 1)."""

    features: int

    def setup(self):
        self.gate = nn.Dense(self.features, bias_init=nn.initializers.constant(3.0))
        self.value = nn.Dense(self.features)

    def elements(self, inputs):
        return nn.sigmoid(self.gate(inputs)), self.value(inputs)

    def binary_operator(self, earlier, later):
        (a, b), (c, d) = earlier, later
        return a * c, c * b + d

    def outputs(self, states, inputs):
        return jnp.tanh(states[1])

    @nn.nowrap
    def initialize_carry(self, key, input_shape):
        shape = (input_shape[0], self.features)
        return jnp.ones(shape), jnp.zeros(shape)


def main(total_steps: int = 100_000) -> float:
    def network(head):
        extractor = FeatureExtractor(observation_extractor=nn.Dense(32))
        return Network(extractor, torso=Memoroid(cell=GatedSumCell(features=32)), head=head)

    env, env_params = environments.make("memory::MemoryChain", memory_length=10)
    networks = network(heads.Categorical(action_dim=2)), network(heads.VNetwork())
    config = PPOConfig(num_envs=16, num_steps=64)
    agent = PPO(config, env, env_params, *networks, optax.adam(2e-3))
    state, metrics = agent.train(jax.random.key(1), agent.init(jax.random.key(0)), total_steps)
    mean = float(agent.evaluate(jax.random.key(2), state, 256).episode_returns.mean())
    # Close to 0: training reads what acting saw.
    print(f"return {mean:.2f}, ratio error {metrics['initial_ratio_error'].max():.1e}")
    return mean


if __name__ == "__main__":
    tyro.cli(main)
