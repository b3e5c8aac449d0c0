"""Time and memory of a step of streaming actor-critic, with exact and with truncated gradients.

Both take turns on one episode that does not end within the steps, so that nothing is forgotten
meanwhile; PPO trains the same torso beside them, with its defaults. Time is that of the processor.
Memory is that of the compiled program: its arguments, what it returns and its temporary arrays.
"""

import time
from dataclasses import dataclass
from typing import Any

import jax
import tyro
from timing import machine, medians

from memorax.configurations.ppo import PPOConfig
from memorax.configurations.streaming import StreamingActorCriticConfig
from memorax.experiments.run.agents import make_agent
from memorax.experiments.run.config import TrainConfig


@dataclass
class Options:
    """Measure streaming actor-critic."""

    torsos: tuple[str, ...] = ("rtu", "lru", "min_gru", "ffm")
    """Torsos by name, of one layer each."""
    steps: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    """Steps of the episodes."""
    timed_steps: int = 10_000
    """Steps up to which programs are run and timed; longer ones are compiled only."""
    features: int = 64
    """Width of encoder, torso and heads."""
    repeats: int = 5
    """Calls of each; the median counts."""


def compiled(options: Options, torso: str, algorithm: Any, steps: int) -> tuple[Any, tuple]:
    """Return a program that trains for some steps, and its arguments."""
    config = TrainConfig(
        "memory::MemoryChain",
        (f"memory_length={2 * max(options.steps)}",),
        torso,
        features=options.features,
        num_layers=1,
        algorithm=algorithm,
    )
    agent = make_agent(config, torso)
    arguments = jax.random.key(0), agent.init(jax.random.key(1))
    train = jax.jit(lambda key, state: agent.train(key, state, steps))
    return train.lower(*arguments).compile(), arguments


def kibibytes(program: Any) -> float:
    memory = program.memory_analysis()
    parts = ("temp_size_in_bytes", "argument_size_in_bytes", "output_size_in_bytes")
    return sum(getattr(memory, part) for part in parts) / 2**10


def measure(options: Options, torso: str, steps: int) -> str:
    ppo = PPOConfig()
    algorithms: dict[str, Any] = {
        kind: StreamingActorCriticConfig(num_steps=min(1_000, steps), recurrent_gradient=kind)
        for kind in ("exact", "truncated")
    }
    algorithms["ppo"] = ppo
    made = {name: compiled(options, torso, config, steps) for name, config in algorithms.items()}
    size = {name: kibibytes(program) for name, (program, _) in made.items()}
    cells = [torso, f"{steps:,}", f"{size['exact']:,.0f}", f"{size['truncated']:,.0f}"]
    cells += [f"{size['ppo']:,.0f}"]
    if steps <= options.timed_steps:
        calls = {
            name: lambda program=program, arguments=arguments: program(*arguments)
            for name, (program, arguments) in made.items()
        }
        seconds = medians(calls, options.repeats, time.process_time)
        per_update = ppo.num_envs * ppo.num_steps
        taken = {"exact": steps, "truncated": steps, "ppo": -(-steps // per_update) * per_update}
        each = {name: 1e6 * seconds[name] / taken[name] for name in taken}
        cells += [f"{each[name]:.0f}" for name in taken]
        cells += [f"{each['exact'] / each['truncated']:.2f}"]
    else:
        cells += [""] * 4
    return f"| {' | '.join(cells)} |"


def main() -> None:
    options = tyro.cli(Options)
    print(f"{machine()}\n")
    print(
        "| torso | steps of an episode | KiB exact | KiB truncated | KiB PPO "
        "| us a step exact | truncated | PPO | exact / truncated |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for torso in options.torsos:
        for steps in options.steps:
            print(measure(options, torso, steps), flush=True)


if __name__ == "__main__":
    main()
