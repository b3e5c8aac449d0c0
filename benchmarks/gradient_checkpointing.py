"""What gradient checkpointing costs and saves: the same network with and without, taking turns.

An encoder, a torso by name and a head, forward and backward over 16 sequences. Memory is the
temporary memory of the compiled program, time that of the processor.
"""

import time
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
import tyro
from timing import machine, medians

from memorax.experiments.presets.torsos import make_torso
from memorax.networks import FeatureExtractor, Network, heads


@dataclass
class Options:
    """Measure gradient checkpointing."""

    torsos: tuple[str, ...] = ("gru", "lstm", "lru", "s5", "mlstm", "attention")
    """Torsos by name."""
    times: tuple[int, ...] = (128, 1024, 4096)
    """Steps of the sequences."""
    batch: int = 16
    """Sequences."""
    features: int = 64
    """Width of encoder, torso and head."""
    repeats: int = 5
    """Calls of each; the median counts."""


def measure(options: Options, name: str, steps: int) -> str:
    network = Network(
        FeatureExtractor(nn.Sequential((nn.Dense(options.features), nn.relu))),
        make_torso(name, options.features),
        heads.VNetwork(hidden_dims=(options.features,)),
    )
    observation = jax.random.normal(jax.random.key(0), (options.batch, steps, 4))
    done = jnp.zeros((options.batch, steps), bool)
    params = jax.jit(network.init)(jax.random.key(1), observation[:, :1])

    def gradient_of(network):
        def loss(params, observation):
            return (network.apply(params, observation, done=done)[1] ** 2).mean()

        return jax.jit(jax.grad(loss)).lower(params, observation).compile()

    programs = {
        "kept": gradient_of(network),
        "again": gradient_of(network.clone(gradient_checkpointing=True)),
    }
    mebibytes = {
        name: program.memory_analysis().temp_size_in_bytes / 2**20
        for name, program in programs.items()
    }
    calls = {
        name: lambda program=program: program(params, observation)
        for name, program in programs.items()
    }
    seconds = medians(calls, options.repeats, time.process_time)
    return (
        f"| {name} | {steps:,} | {mebibytes['again'] / mebibytes['kept']:.2f} "
        f"| {seconds['again'] / seconds['kept']:.2f} | {mebibytes['kept']:.0f} "
        f"| {mebibytes['again']:.0f} | {1e3 * seconds['kept']:.0f} |"
    )


def main() -> None:
    options = tyro.cli(Options)
    print(f"{machine()}\n")
    print("| torso | steps | memory | time | MiB without | MiB with | ms without |")
    print("|---|---|---|---|---|---|---|")
    for name in options.torsos:
        for steps in options.times:
            print(measure(options, name, steps), flush=True)


if __name__ == "__main__":
    main()
