"""Environment steps per second of recurrent PPO, beside the environments alone.

PPO with separate actor and critic, GRUs of width 64, 16 environments, 128 steps, four epochs of
four minibatches, on CartPole. The floor is the same loop with random actions for a network and
nothing learned. Time divides into acting, environment and update by leaving parts out.

Then every algorithm as ``memorax train`` runs it, with a GRU and one seed: on CartPole, SAC on
Pendulum.
"""

import time
from dataclasses import replace

import flax.linen as nn
import jax
import optax
from timing import medians

from memorax import environments
from memorax.algorithms import PPO, PPOConfig
from memorax.environments import RecordEpisodeStatistics, Vectorize
from memorax.experiments.agents import make_agent as make_configured_agent
from memorax.experiments.config import ALGORITHMS, TrainConfig
from memorax.networks import RNN, FeatureExtractor, Network, heads

ALGORITHM_UPDATES = 20
NUM_UPDATES = 10
REPEATS = 7


def make_agent() -> PPO:
    env, env_params = environments.make("gymnax::CartPole-v1")

    def network(head):
        return Network(
            feature_extractor=FeatureExtractor(
                observation_extractor=nn.Sequential((nn.Dense(64), nn.relu))
            ),
            torso=RNN(cell=nn.GRUCell(features=64)),
            head=head,
        )

    optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(3e-4))
    actor, critic = network(heads.Categorical(action_dim=2)), network(heads.VNetwork())
    return PPO(PPOConfig(), env, env_params, actor, critic, optimizer)


def make_floor(agent: PPO, num_steps: int):
    """Return a function that steps the environments with random actions."""
    envs = Vectorize(RecordEpisodeStatistics(agent.env), agent.config.num_envs)
    num_actions = agent.env.action_space(agent.env_params).n

    def step(env_state, key):
        action_key, env_key = jax.random.split(key)
        action = jax.random.randint(action_key, (agent.config.num_envs,), 0, num_actions)
        observation, env_state, reward, *_ = envs.step(env_key, env_state, action, agent.env_params)
        return env_state, (observation.sum(), reward)

    @jax.jit
    def floor(key):
        reset_key, key = jax.random.split(key)
        _, env_state = envs.reset(reset_key, agent.env_params)
        return jax.lax.scan(step, env_state, jax.random.split(key, num_steps))

    return floor


def make_acting(agent: PPO, num_updates: int):
    """Return a function that acts without learning."""

    @jax.jit
    def acting(key, state):
        return jax.lax.scan(agent._rollout, state, jax.random.split(key, num_updates))

    return acting


def measure_algorithm(name: str) -> str:
    """Return the row of an algorithm, once it has begun to learn."""
    environment = "gymnax::Pendulum-v1" if name == "sac" else "gymnax::CartPole-v1"
    algorithm = ALGORITHMS[name]()
    if hasattr(algorithm, "learning_starts"):
        algorithm = replace(algorithm, learning_starts=1)
    agent = make_configured_agent(TrainConfig(environment, algorithm=algorithm), "gru")
    key, num_steps = jax.random.key(0), ALGORITHM_UPDATES * agent.steps_per_update
    state = jax.block_until_ready(jax.jit(agent.init)(key))
    started = time.perf_counter()
    train = jax.jit(agent.train, static_argnums=2).lower(key, state, num_steps).compile()
    compile_seconds = time.perf_counter() - started
    # The first call fills the replay.
    state, _ = train(key, state)
    seconds = medians({name: lambda: train(key, state)}, REPEATS)[name]
    gradient_steps = ALGORITHM_UPDATES * algorithm.optimizer_steps
    mebibytes = train.memory_analysis().temp_size_in_bytes / 2**20
    return (
        f"| {name} | {environment} | {num_steps / seconds:,.0f} | {gradient_steps / seconds:,.0f} "
        f"| {compile_seconds:.1f} | {mebibytes:.1f} |"
    )


def main() -> None:
    agent = make_agent()
    key = jax.random.key(0)
    state = jax.block_until_ready(agent.init(key))
    num_steps = NUM_UPDATES * agent.steps_per_update
    started = time.perf_counter()
    jax.block_until_ready(agent.train(key, state, num_steps))
    compile_seconds = time.perf_counter() - started
    floor, acting = (
        make_floor(agent, NUM_UPDATES * agent.config.num_steps),
        make_acting(agent, NUM_UPDATES),
    )
    seconds = medians(
        {
            "PPO": lambda: agent.train(key, state, num_steps),
            "acting": lambda: acting(key, state),
            "floor": lambda: floor(key),
        },
        REPEATS,
    )
    total = seconds["PPO"]
    shares = {
        "acting": (seconds["acting"] - seconds["floor"]) / total,
        "environment": seconds["floor"] / total,
        "update": (total - seconds["acting"]) / total,
    }
    print(f"first call, mostly compilation: {compile_seconds:.1f} s")
    print("| loop | environment steps per second | ratio to the floor |")
    print("|---|---|---|")
    for name, label in (("PPO", "PPO, GRU torso"), ("floor", "random actions")):
        speed, ratio = num_steps / seconds[name], seconds["floor"] / seconds[name]
        print(f"| {label} | {speed:,.0f} | {ratio:.4f} |")
    print("shares of PPO's time: " + ", ".join(f"{k} {v:.1%}" for k, v in shares.items()))
    print()
    print("| algorithm | task | environment steps/s | gradient steps/s | compile s | MiB |")
    print("|---|---|---|---|---|---|")
    for name in ALGORITHMS:
        print(measure_algorithm(name), flush=True)


if __name__ == "__main__":
    main()
