"""Train a GRU with PPO on a task that needs memory, and play fresh episodes.

Run ``python examples/train_ppo.py --help`` for its options.
"""

import flax.linen as nn
import jax
import optax
import tyro

from memorax import environments
from memorax.algorithms import PPO, PPOConfig
from memorax.networks import RNN, FeatureExtractor, Network, heads


def network(head: nn.Module, features: int) -> Network:
    return Network(
        feature_extractor=FeatureExtractor(
            observation_extractor=nn.Sequential((nn.Dense(features), nn.relu)),
        ),
        torso=RNN(cell=nn.GRUCell(features=features)),
        head=head,
    )


def main(total_steps: int = 100_000, memory_length: int = 10, features: int = 64) -> float:
    env, env_params = environments.make("memory::MemoryChain", memory_length=memory_length)
    num_actions = env.action_space(env_params).n
    agent = PPO(
        PPOConfig(num_envs=16, num_steps=64),
        env,
        env_params,
        actor=network(heads.Categorical(action_dim=num_actions), features),
        critic=network(heads.VNetwork(), features),
        optimizer=optax.chain(optax.clip_by_global_norm(0.5), optax.adam(2e-3)),
    )
    state = agent.init(jax.random.key(0))
    state, metrics = agent.train(jax.random.key(1), state, total_steps)
    for update in range(0, len(metrics["episode_return"]), 10):
        steps = (update + 1) * agent.steps_per_update
        print(f"{steps:>8,} steps: return {metrics['episode_return'][update]:.2f}")

    report = agent.evaluate(jax.random.key(2), state, 256)
    mean = float(report.episode_returns.mean())
    print(f"256 fresh episodes: return {mean:.2f}")
    return mean


if __name__ == "__main__":
    tyro.cli(main)
