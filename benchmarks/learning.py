"""What every algorithm, head and architecture learns, beside the same network without memory.

Each line is a run as ``memorax train`` makes it. Writes its table, its numbers and the learning
curves into a folder.
"""

import json
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import tyro
from rich.console import Console

from memorax.algorithms import (
    Algorithm,
    DQNConfig,
    PPOConfig,
    PQNConfig,
    R2D2Config,
    SACConfig,
)
from memorax.environments import MaskObservation, ScaleReward
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.devices import one_device
from memorax.experiments.run.folder import RunFolder, read_curves
from memorax.experiments.run.training import make_agents, run
from memorax.experiments.study.plots import plot_learning_curves
from memorax.experiments.study.statistics import fill_gaps
from memorax.networks import heads

PENDULUM = "gymnax::Pendulum-v1"
VELOCITY = 2
"""The element of a pendulum's observation that is hidden; its rewards are divided by ten."""
CHAIN = {
    "environment": "gymnax::MemoryChain-bsuite",
    "environment_parameters": ("memory_length=10",),
}
PENDULUM_SAC = SACConfig(gamma=0.95, batch_size=16, gradient_steps=64, learning_starts=2_000)
REPLAYED = {"learning_rate": 1e-3, "max_gradient_norm": 10.0, "anneal_learning_rate": False}

ALGORITHMS: dict[str, TrainConfig] = {
    "PPO, Categorical, VNetwork": TrainConfig(),
    "PPO, HLGaussVNetwork": TrainConfig(
        algorithm=PPOConfig(value_clip_coefficient=None),
        value_head="hl_gauss_v_network",
        value_range=(-2.0, 2.0),
    ),
    "PPO, Horde of a GVF": TrainConfig(shared_memory=False),
    "DQN, DiscreteQNetwork": TrainConfig(
        **CHAIN, **REPLAYED, algorithm=DQNConfig(), total_steps=100_000
    ),
    "DQN, C51QNetwork": TrainConfig(
        **CHAIN,
        **REPLAYED | {"learning_rate": 3e-3},
        algorithm=DQNConfig(),
        value_head="c51_q_network",
        value_range=(-2.0, 2.0),
        total_steps=100_000,
    ),
    "R2D2, dueling": TrainConfig(
        **CHAIN,
        **REPLAYED,
        algorithm=R2D2Config(),
        value_head="dueling_q_network",
        total_steps=150_000,
    ),
    "PQN, DiscreteQNetwork": TrainConfig(
        **CHAIN, **REPLAYED, algorithm=PQNConfig(), total_steps=150_000
    ),
    "PPO, Gaussian": TrainConfig(
        environment=PENDULUM,
        algorithm=PPOConfig(gamma=0.95, entropy_coefficient=0.0),
        shared_memory=False,
        total_steps=1_000_000,
    ),
    "SAC, SquashedGaussian, TwinContinuousQNetwork": TrainConfig(
        environment=PENDULUM,
        **REPLAYED,
        algorithm=PENDULUM_SAC,
        total_steps=40_000,
    ),
    "SAC, ContinuousQNetwork": TrainConfig(
        environment=PENDULUM,
        **REPLAYED,
        algorithm=PENDULUM_SAC,
        value_head="continuous_q_network",
        total_steps=40_000,
    ),
}
ARCHITECTURES: dict[str, TrainConfig] = {
    name: TrainConfig(torso=name, memoryless_twin=False)
    for name in (
        "gtrxl",
        "transformer_xl",
        "gpt2",
        "xlstm",
        "mamba2",
        "s5",
        "min_gru",
        "rl2_gru",
    )
}
RUNS = ALGORITHMS | ARCHITECTURES


@dataclass
class Options:
    """Train every algorithm with every head, and every architecture."""

    output: Path
    """Folder for learning.md, .json and .png, and for the runs."""
    runs: tuple[str, ...] = tuple(RUNS)
    """Which runs, by name."""
    num_seeds: int = 3
    """Seeds of each."""


def agents_of(name: str, config: TrainConfig) -> dict[str, Any]:
    """Return the agents of a run, with what the command line cannot name."""
    agents = make_agents(config)
    if name == "PPO, Horde of a GVF":
        return {model: with_demon(config, agent) for model, agent in agents.items()}
    if config.environment == PENDULUM:
        return {model: without_velocity(config, agent) for model, agent in agents.items()}
    return agents


def with_demon(config: TrainConfig, agent: Any) -> Algorithm:
    """Let the critic also predict how many steps are left: a cumulant of 1 until the end."""
    demon = heads.GVF(heads.VNetwork(), cumulant=lambda step: 0 * step.reward + 1, discount=1.0)
    critic = agent.networks["critic"]
    critic = critic.clone(head=heads.Horde(critic.head, {"steps_left": demon}))
    algorithm = replace(config.algorithm, auxiliary_coefficient=0.01)
    parts = agent.env, agent.env_params, agent.networks["actor"], critic, agent.optimizer
    return type(agent)(algorithm, *parts)


def without_velocity(config: TrainConfig, agent: Any) -> Algorithm:
    env = ScaleReward(MaskObservation(agent.env, (VELOCITY,)), 0.1)
    parts = agent.env_params, agent.networks["actor"], agent.networks["critic"], agent.optimizer
    return type(agent)(config.algorithm, env, *parts)


def measure(name: str, config: TrainConfig, folder: RunFolder) -> dict[str, Any]:
    started = time.perf_counter()
    evaluations = run(config, agents_of(name, config), one_device(), folder, Console())
    if evaluations is None:
        raise KeyboardInterrupt
    return {
        "run": name,
        "algorithm": config.algorithm_name,
        "task": config.task,
        "memory": config.torso,
        "steps": config.total_steps,
        "seconds": time.perf_counter() - started,
        "evaluations": [asdict(evaluation) for evaluation in evaluations],
    }


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| run | task | memory | return | 95 % interval | without memory | steps | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        memory, *twins = row["evaluations"]
        single = math.isnan(memory["low"])
        interval = "-" if single else f"[{memory['low']:.2f}, {memory['high']:.2f}]"
        twin = f"{twins[0]['mean_return']:.2f}" if twins else "-"
        lines.append(
            f"| {row['run']} | {row['task']} | {row['memory']} | {memory['mean_return']:.2f} "
            f"| {interval} | {twin} | {row['steps']:,} | {row['seconds']:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    options = tyro.cli(Options)
    options.output.mkdir(parents=True, exist_ok=True)
    rows, curves = [], {}
    for index, name in enumerate(options.runs):
        config = replace(RUNS[name], num_seeds=options.num_seeds)
        path = options.output / "runs" / f"{index:02}-{config.algorithm_name}-{config.torso}"
        folder = RunFolder.create(path, config)
        rows.append(measure(name, config, folder))
        # What is there is kept when a later run is stopped.
        machine = f"jax {jax.__version__} on {jax.default_backend()}"
        text = f"{options.num_seeds} seed(s), {machine}\n\n{table(rows)}\n"
        (options.output / "learning.md").write_text(text)
        (options.output / "learning.json").write_text(json.dumps(rows, indent=1) + "\n")
        curves[name] = {
            model: (steps, fill_gaps(returns))
            for model, (steps, returns) in read_curves(folder).items()
        }
        plot_learning_curves(options.output / "learning.png", curves)
    print(table(rows))


if __name__ == "__main__":
    main()
