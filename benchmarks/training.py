"""Environment steps per second of recurrent PPO, beside the environments alone.

PPO with separate actor and critic, GRUs of width 64, 16 environments, 128 steps, four epochs of
four minibatches, on CartPole. The floor is the same loop with random actions for a network and
nothing learned. Time divides into acting, environment and update by leaving parts out.

Then every algorithm as ``memorax train`` runs it, with a GRU and one seed: on CartPole, SAC on
Pendulum.

Then every torso by name, as ``memorax train --torso NAME`` builds it, trained by PPO on CartPole:
its steps per second beside those of the GRU, which takes turns with it; the same for separate
memories of actor and critic. What a layer costs is the time of a forward and backward pass through
the torso, divided by its layers, as a multiple of its bare cell's.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import flax.linen as nn
import jax
import optax
import tyro
from timing import medians

from memorax import environments
from memorax.algorithms import PPO, PPOConfig
from memorax.catalog.algorithms import ALGORITHMS
from memorax.environments import RecordEpisodeStatistics, Vectorize
from memorax.experiments.presets.torsos import TORSOS, make_torso
from memorax.experiments.run.agents import make_agent as make_configured_agent
from memorax.experiments.run.config import TrainConfig
from memorax.networks import (
    RNN,
    DeltaNetCell,
    DeltaNetConfig,
    FeatureExtractor,
    FFMCell,
    FFMConfig,
    GatedDeltaNetCell,
    GatedDeltaNetConfig,
    GatedLinearAttentionCell,
    GatedLinearAttentionConfig,
    KimiDeltaAttentionCell,
    KimiDeltaAttentionConfig,
    LinearAttentionCell,
    LinearAttentionConfig,
    LRUCell,
    LRUConfig,
    Mamba2Cell,
    Mamba2Config,
    Mamba3Cell,
    Mamba3Config,
    Memoroid,
    MinGRUCell,
    MinGRUConfig,
    Network,
    RGLRUCell,
    RGLRUConfig,
    RoPE,
    RTUCell,
    RTUConfig,
    RWKV7Cell,
    RWKV7Config,
    S5Cell,
    S5Config,
    SelfAttention,
    SelfAttentionConfig,
    SHMCell,
    SHMConfig,
    heads,
    mLSTMCell,
    mLSTMConfig,
    sLSTMCell,
    sLSTMConfig,
)
from memorax.validation import unknown_name

ALGORITHM_UPDATES = 20
TORSO_UPDATES = 4
TORSO_REPEATS = 5
SEQUENCES = (16, 128)
"""Batch and time of the passes that a layer's cost is measured with."""
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
    algorithm = ALGORITHMS[name].config()
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
    gradient_steps = algorithm.optimizer_steps(ALGORITHM_UPDATES)
    mebibytes = train.memory_analysis().temp_size_in_bytes / 2**20
    return (
        f"| {name} | {environment} | {num_steps / seconds:,.0f} | {gradient_steps / seconds:,.0f} "
        f"| {compile_seconds:.1f} | {mebibytes:.1f} |"
    )


BARE_CELLS = {
    "gru": lambda: RNN(nn.GRUCell(64)),
    "lstm": lambda: RNN(nn.OptimizedLSTMCell(64)),
    "simple": lambda: RNN(nn.SimpleCell(64)),
    "slstm": lambda: RNN(sLSTMCell(sLSTMConfig(64, 64, kernel_size=4))),
    "shm": lambda: RNN(SHMCell(SHMConfig(64, hidden_dim=16))),
    "rtu": lambda: RNN(RTUCell(RTUConfig(64, 64))),
    "lru": lambda: Memoroid(LRUCell(LRUConfig(64, 64))),
    "s5": lambda: Memoroid(S5Cell(S5Config(64, 128))),
    "min_gru": lambda: Memoroid(MinGRUCell(MinGRUConfig(64))),
    "mamba2": lambda: Memoroid(Mamba2Cell(Mamba2Config(64))),
    "mamba3": lambda: Memoroid(Mamba3Cell(Mamba3Config(64))),
    "delta_net": lambda: Memoroid(DeltaNetCell(DeltaNetConfig(64))),
    "gated_delta_net": lambda: Memoroid(GatedDeltaNetCell(GatedDeltaNetConfig(64))),
    "kimi_delta_attention": lambda: Memoroid(KimiDeltaAttentionCell(KimiDeltaAttentionConfig(64))),
    "gated_linear_attention": lambda: Memoroid(
        GatedLinearAttentionCell(GatedLinearAttentionConfig(64))
    ),
    "rwkv7": lambda: Memoroid(RWKV7Cell(RWKV7Config(64))),
    "rg_lru": lambda: Memoroid(RGLRUCell(RGLRUConfig(64))),
    "mlstm": lambda: Memoroid(mLSTMCell(mLSTMConfig(64, 128, 4))),
    "ffm": lambda: Memoroid(FFMCell(FFMConfig(64))),
    "linear_attention": lambda: Memoroid(LinearAttentionCell(LinearAttentionConfig(64, 4, 16))),
    "attention": lambda: SelfAttention(
        SelfAttentionConfig(64, 4, 128, positional_embedding=RoPE())
    ),
}
"""The cell inside each torso of equal layers, alone, of the same sizes."""


def training_of(config: TrainConfig):
    """Return a function that trains for a few updates, compiled, and the seconds that took."""
    agent = make_configured_agent(config, config.torso)
    key, num_steps = jax.random.key(0), TORSO_UPDATES * agent.steps_per_update
    state = jax.block_until_ready(jax.jit(agent.init)(key))
    started = time.perf_counter()
    train = jax.jit(agent.train, static_argnums=2).lower(key, state, num_steps).compile()
    return lambda: train(key, state), time.perf_counter() - started, num_steps


def pass_through(torso):
    """Return a function that reads sequences and computes the gradient of all parameters."""
    inputs = jax.random.normal(jax.random.key(0), (*SEQUENCES, 64))
    params = torso.init(jax.random.key(1), inputs)
    gradient = jax.jit(jax.grad(lambda params: (torso.apply(params, inputs)[1] ** 2).sum()))
    return lambda: gradient(params)


def measure_torsos(names: tuple[str, ...]) -> list[str]:
    """Return the table of torsos by name, row by row."""
    rows = [
        "| torso | layers | steps/s | of the GRU's | layer / bare cell | compile s |",
        "|---|---|---|---|---|---|",
    ]
    environment = "gymnax::CartPole-v1"
    gru, _, num_steps = training_of(TrainConfig(environment, torso="gru"))
    for name in names:
        shared = name != "gru, separate memories"
        torso = name if shared else "gru"
        config = TrainConfig(environment, torso=torso, shared_memory=shared)
        train, compile_seconds, _ = training_of(config)
        seconds = medians({"gru": gru, "this": train}, TORSO_REPEATS)
        layers, cost = TORSOS[torso].num_layers, "-"
        if shared and torso in BARE_CELLS:
            named, bare = make_torso(torso, 64), BARE_CELLS[torso]()
            passes = {"named": pass_through(named), "bare": pass_through(bare)}
            times = medians(passes, TORSO_REPEATS)
            cost = f"{times['named'] / layers / times['bare']:.2f}"
        rows.append(
            f"| {name} | {layers or '-'} | {num_steps / seconds['this']:,.0f} "
            f"| {seconds['gru'] / seconds['this']:.2f} | {cost} | {compile_seconds:.1f} |"
        )
        print(rows[-1], flush=True)
    return rows


@dataclass
class Options:
    """Measure training: PPO and its floor, every algorithm, every torso by name."""

    torsos: tuple[str, ...] = (*TORSOS, "gru, separate memories")
    """Which torsos by name to measure."""
    only_torsos: bool = False
    """Measure nothing else."""
    output: Path | None = None
    """A folder for training.md, the table of torsos; None: only print it."""


def main() -> None:
    options = tyro.cli(Options)
    for name in options.torsos:
        if name not in (*TORSOS, "gru, separate memories"):
            raise SystemExit(unknown_name("torso", name, TORSOS))
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
    if not options.only_torsos:
        measure_ppo()
        print("| algorithm | task | environment steps/s | gradient steps/s | compile s | MiB |")
        print("|---|---|---|---|---|---|")
        for name in ALGORITHMS:
            print(measure_algorithm(name), flush=True)
        print()
    rows = measure_torsos(options.torsos)
    if options.output is not None:
        (options.output / "training.md").write_text("\n".join(rows) + "\n")


def measure_ppo() -> None:
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


if __name__ == "__main__":
    main()
