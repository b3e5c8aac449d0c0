"""Environment steps per second of training, beside what one would train with otherwise.

First recurrent PPO on CartPole with GRUs of width 64, 16 environments, 128 steps, four epochs of
four minibatches: ours by name with a memory that actor and critic share and with separate ones, a
plain Flax and Optax loop, and SB3-contrib's RecurrentPPO (an LSTM). All take turns and go on
training where they were; the return is that of their last turn.

Then where the time of an update goes: each part alone, in a program of its own, as a share of the
whole, in processor time. The environments step with random actions.

Then every algorithm as ``memorax train`` runs it, with a GRU and one seed, on CartPole, SAC on
Pendulum; and every torso by name, trained by PPO on CartPole. Each takes turns with the plain loop,
torsos with the GRU by name as well. What a layer costs is the time of a forward and backward pass
through the torso, divided by its layers, as a multiple of its bare cell's.
"""

import contextlib
import datetime
import importlib.metadata
import statistics
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import tyro
from rivals import (
    ENTROPY_COEFFICIENT,
    FEATURES,
    LEARNING_RATE,
    STEPS_PER_UPDATE,
    Contender,
    check_stable_baselines,
    compiled,
    plain_loop,
    stable_baselines,
)
from timing import machine, medians, seconds

from memorax.algorithms import PPOConfig
from memorax.algorithms.rollout import in_groups, minibatch_indices, take_minibatch
from memorax.catalog.algorithms import ALGORITHMS
from memorax.environments import RecordEpisodeStatistics, Vectorize
from memorax.experiments.presets.torsos import TORSOS, make_torso
from memorax.experiments.run.agents import make_agent as make_configured_agent
from memorax.experiments.run.config import TrainConfig
from memorax.networks import (
    RNN,
    DeltaNetCell,
    DeltaNetConfig,
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
CART_POLE = "gymnax::CartPole-v1"
PLAIN, SB3 = "plain Flax and Optax loop, GRU", "SB3-contrib RecurrentPPO, LSTM"
SEPARATE = "gru, separate memories"

Rival = Literal["plain", "sb3"]


def by_name(torso: str, shared_memory: bool = True) -> TrainConfig:
    """Return the configuration of ``memorax train`` with the rivals' learning rate."""
    return TrainConfig(
        CART_POLE,
        torso=torso,
        features=FEATURES,
        learning_rate=LEARNING_RATE,
        anneal_learning_rate=False,
        shared_memory=shared_memory,
        algorithm=PPOConfig(entropy_coefficient=ENTROPY_COEFFICIENT),
    )


def ours(config: TrainConfig, num_updates: int) -> Contender:
    """Return what ``memorax train`` runs for one seed, compiled."""
    agent = make_configured_agent(config, config.torso)
    steps = num_updates * agent.steps_per_update
    train = jax.jit(lambda key, state: agent.train(key, state, steps), donate_argnums=1)

    def mean_return(metrics):
        episodes = metrics["num_episodes"]
        return jnp.nansum(metrics["episode_return"] * episodes) / episodes.sum()

    return compiled(train, jax.jit(agent.init)(jax.random.key(0)), mean_return)


def measure_rivals(options: "Options") -> list[str]:
    """Return the table of loops that train the same task with the same sizes."""
    updates = options.updates
    contenders = {
        "gru by name, shared memory": ours(by_name("gru"), updates),
        "gru by name, separate memories": ours(by_name("gru", False), updates),
        "lstm by name, shared memory": ours(by_name("lstm"), updates),
    }
    if "plain" in options.rivals:
        contenders[PLAIN] = plain_loop(updates)
    if "sb3" in options.rivals:
        contenders[SB3] = stable_baselines(updates)
    returns: dict[str, list[float]] = {name: [] for name in contenders}
    calls = {
        name: lambda name=name, contender=contender: returns[name].append(contender.train())
        for name, contender in contenders.items()
    }
    times = {
        name: statistics.median(measured)
        for name, measured in seconds(calls, options.repeats).items()
    }
    there = [name for name in (PLAIN, SB3) if name in times]
    header = ["loop", *(f"times the {name.split(',')[0]}" for name in there)]
    header += ["steps/s", "return in the end", "compile s"]
    rows = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for name, contender in contenders.items():
        cells = [name, *(f"{times[rival] / times[name]:.2f}" for rival in there)]
        cells += [f"{updates * STEPS_PER_UPDATE / times[name]:,.0f}", f"{returns[name][-1]:.0f}"]
        compiling = contender.compile_seconds
        cells.append("-" if compiling is None else f"{compiling:.1f}")
        rows.append(f"| {' | '.join(cells)} |")
    steps = (1 + options.repeats) * updates * STEPS_PER_UPDATE
    return [*rows, "", f"Each trained for {steps:,} steps."]


def measure_shares(options: "Options") -> list[str]:
    """Return where the time of an update by name goes, part by part."""
    config = by_name("gru")
    agent: Any = make_configured_agent(config, config.torso)
    key, sizes = jax.random.key(0), agent.config
    state = jax.jit(agent.init)(key)
    next_state, rollout = jax.jit(agent._rollout)(state, key)
    sequences = jax.jit(agent._sequences)(state, next_state, rollout)
    indices = minibatch_indices(key, 1, sizes.num_envs, sizes.update_epochs, sizes.num_minibatches)
    gradients = jax.tree.map(jnp.ones_like, state.params)

    def over_minibatches(compute):
        """Return a program that computes a number of every minibatch."""

        def step(total, index):
            return total + compute(take_minibatch(in_groups(sequences, 1), index)), None

        return jax.jit(lambda: jax.lax.scan(step, jnp.float32(0), indices)[0])

    def total(tree):
        return sum(leaf.sum(dtype=jnp.float32) for leaf in jax.tree.leaves(tree))

    def optimise(learner, _):
        params, optimizer_state = learner
        updates, optimizer_state = agent.optimizer.update(gradients, optimizer_state, params)
        return (optax.apply_updates(params, updates), optimizer_state), None

    envs = Vectorize(RecordEpisodeStatistics(agent.env), sizes.num_envs)
    num_actions = agent.env.action_space(agent.env_params).n

    def step_environments(env_state, key):
        action_key, env_key = jax.random.split(key)
        action = jax.random.randint(action_key, (sizes.num_envs,), 0, num_actions)
        observation, env_state, reward, *_ = envs.step(env_key, env_state, action, agent.env_params)
        return env_state, (observation.sum(), reward)

    _, env_state = jax.jit(lambda: envs.reset(key, agent.env_params))()
    learner = state.params, state.optimizer_state
    programs = {
        "update": jax.jit(lambda: agent._update(state, key)),
        "environment": jax.jit(
            lambda: jax.lax.scan(
                step_environments, env_state, jax.random.split(key, sizes.num_steps)
            )
        ),
        "rollout": jax.jit(lambda: agent._rollout(state, key)),
        "advantages": jax.jit(lambda: agent._sequences(state, next_state, rollout)),
        "gather": over_minibatches(total),
        "forward": over_minibatches(lambda minibatch: agent._loss(state.params, minibatch)[0]),
        "backward": over_minibatches(
            lambda minibatch: total(
                jax.grad(lambda params: agent._loss(params, minibatch)[0])(state.params)
            )
        ),
        "optimiser": jax.jit(lambda: jax.lax.scan(optimise, learner, length=len(indices))[0]),
    }
    times = medians(programs, 3 * options.repeats, time.process_time)
    shares = {
        "environment": times["environment"],
        "acting": times["rollout"] - times["environment"],
        "advantages": times["advantages"],
        "minibatch gather": times["gather"],
        "forward": times["forward"] - times["gather"],
        "backward": times["backward"] - times["forward"],
        "optimiser": times["optimiser"],
    }
    shares["the rest"] = times["update"] - sum(shares.values())
    rows = ["| part of an update | share | ms |", "|---|---|---|"]
    for name, value in shares.items():
        rows.append(f"| {name} | {value / times['update']:.1%} | {1e3 * value:.2f} |")
    return rows


def measure_algorithm(name: str, plain: Contender, repeats: int) -> str:
    """Return the row of an algorithm, once it has begun to learn."""
    environment = CART_POLE if "discrete" in ALGORITHMS[name].actions else "gymnax::Pendulum-v1"
    algorithm = ALGORITHMS[name].config()
    if hasattr(algorithm, "learning_starts"):
        algorithm = replace(algorithm, learning_starts=1)
    # A GRU has no exact recurrent gradient to carry.
    torso = "gru" if ALGORITHMS[name].has_optimizer else "rtu"
    agent = make_configured_agent(TrainConfig(environment, algorithm=algorithm), torso)
    key, num_steps = jax.random.key(0), ALGORITHM_UPDATES * agent.steps_per_update
    state = jax.block_until_ready(jax.jit(agent.init)(key))
    started = time.perf_counter()
    train = jax.jit(agent.train, static_argnums=2).lower(key, state, num_steps).compile()
    compile_seconds = time.perf_counter() - started
    # The first call fills the replay.
    state, _ = train(key, state)
    times = medians({name: lambda: train(key, state), PLAIN: plain.train}, repeats)
    speed = num_steps / times[name]
    plain_speed = TORSO_UPDATES * STEPS_PER_UPDATE / times[PLAIN]
    gradient_steps = algorithm.optimizer_steps(ALGORITHM_UPDATES)
    memory = train.memory_analysis()
    mebibytes = (memory.temp_size_in_bytes + memory.argument_size_in_bytes) / 2**20
    return (
        f"| {name} | {environment} | {speed / plain_speed:.2f} | {speed:,.0f} "
        f"| {gradient_steps / times[name]:,.0f} | {compile_seconds:.1f} | {mebibytes:.1f} |"
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


def pass_through(torso):
    """Return a function that reads sequences and computes the gradient of all parameters."""
    inputs = jax.random.normal(jax.random.key(0), (*SEQUENCES, 64))
    params = torso.init(jax.random.key(1), inputs)
    gradient = jax.jit(jax.grad(lambda params: (torso.apply(params, inputs)[1] ** 2).sum()))
    return lambda: gradient(params)


def measure_torsos(names: tuple[str, ...], plain: Contender, repeats: int) -> list[str]:
    """Return the table of torsos by name, row by row."""
    rows = [
        "| torso | layers | of the plain loop's steps/s | of the GRU's | steps/s "
        "| layer / bare cell | compile s |",
        "|---|---|---|---|---|---|---|",
    ]
    gru = ours(by_name("gru"), TORSO_UPDATES)
    for name in names:
        shared = name != SEPARATE
        torso = name if shared else "gru"
        contender = ours(by_name(torso, shared), TORSO_UPDATES)
        loops = {"gru": gru.train, "plain": plain.train, "this": contender.train}
        times = medians(loops, repeats)
        layers, cost = TORSOS[torso].num_layers, "-"
        if shared and torso in BARE_CELLS:
            named, bare = make_torso(torso, FEATURES), BARE_CELLS[torso]()
            passes = medians({"named": pass_through(named), "bare": pass_through(bare)}, repeats)
            cost = f"{passes['named'] / layers / passes['bare']:.2f}"
        rows.append(
            f"| {name} | {layers or '-'} | {times['plain'] / times['this']:.2f} "
            f"| {times['gru'] / times['this']:.2f} "
            f"| {TORSO_UPDATES * STEPS_PER_UPDATE / times['this']:,.0f} "
            f"| {cost} | {contender.compile_seconds:.1f} |"
        )
        print(rows[-1], flush=True, file=sys.stderr)
    return rows


Part = Literal["rivals", "shares", "algorithms", "torsos"]


@dataclass
class Options:
    """Measure training: beside rivals, part by part, every algorithm, every torso by name."""

    parts: tuple[Part, ...] = ("rivals", "shares", "algorithms", "torsos")
    """What to measure."""
    rivals: tuple[Rival, ...] = ("plain", "sb3")
    """Whom to train beside; sb3 needs the extra benchmarks."""
    updates: int = 10
    """Updates of a turn, of 2,048 steps each, of the loops beside rivals."""
    repeats: int = TORSO_REPEATS
    """Turns of each, after one that is not timed; the median counts."""
    torsos: tuple[str, ...] = (*TORSOS, SEPARATE)
    """Which torsos by name to measure."""
    algorithms: tuple[str, ...] = tuple(ALGORITHMS)
    """Which algorithms to measure."""
    output: Path | None = None
    """A folder for training.md; None: only print."""


def main() -> None:
    options = tyro.cli(Options)
    for name in options.torsos:
        if name not in (*TORSOS, SEPARATE):
            raise SystemExit(unknown_name("torso", name, TORSOS))
    for name in options.algorithms:
        if name not in ALGORITHMS:
            raise SystemExit(unknown_name("algorithm", name, ALGORITHMS))
    if "rivals" in options.parts and "sb3" in options.rivals:
        check_stable_baselines()
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
    text = [f"{datetime.date.today()}, {machine()}, {versions()}.", ""]

    def add(rows):
        print("\n".join(rows), flush=True)
        text.extend([*rows, ""])
        if options.output is not None:
            (options.output / "training.md").write_text("\n".join(text))

    print(text[0])
    if "rivals" in options.parts:
        add(measure_rivals(options))
    if "shares" in options.parts:
        add(measure_shares(options))
    if {"algorithms", "torsos"} & set(options.parts):
        plain = plain_loop(TORSO_UPDATES)
    if "algorithms" in options.parts:
        header = [
            "| algorithm | task | of the plain loop's steps/s | steps/s | gradient steps/s "
            "| compile s | MiB |",
            "|---|---|---|---|---|---|---|",
        ]
        rows = [measure_algorithm(name, plain, options.repeats) for name in options.algorithms]
        add([*header, *rows])
    if "torsos" in options.parts:
        add(measure_torsos(options.torsos, plain, options.repeats))


def versions() -> str:
    """Return the versions of what is compared, as far as it is installed."""
    names = ("flax", "optax", "gymnax", "sb3-contrib", "torch")
    found = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return ", ".join(f"{name} {version}" for name, version in found.items())


if __name__ == "__main__":
    main()
