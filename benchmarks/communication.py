"""What devices send each other while PPO trains, counted in the compiled program.

An update is compiled for 1 to 64 devices, which the host plays, and the collective operations that
it executes are counted with their bytes: those in a loop as often as the loop runs. Beside them is
what the model of docs/devices.md says. Nothing is trained.
"""

import argparse
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from memorax.algorithms import PPOConfig
from memorax.experiments.run.agents import make_agent
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.devices import Devices, make_mesh
from memorax.experiments.run.program import Program

CONFIG = TrainConfig(
    environment="gymnax::CartPole-v1",
    features=4,
    num_seeds=1,
    memoryless_twin=False,
    algorithm=PPOConfig(num_envs=128, num_steps=4, num_minibatches=2, update_epochs=2),
)
LARGEST = 64
COLLECTIVES = "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute"
SCALARS = {"optimizer step": (6, 11), "update": (2, 3)}
"""Collectives and numbers in them that are about losses, advantages, targets and episodes."""


def count_collectives(program: str) -> dict[str, dict[str, int]]:
    """Return how often a compiled program executes each collective operation, and their bytes.

    Args:
        program: Its text, as ``compiled.as_text()`` has it. Bytes are those of the results, whole.
    """
    bodies = dict(_computations(program))
    times, nbytes = Counter(), Counter()

    def visit(name: str, repeats: int) -> None:
        for line in bodies[name]:
            result, operation = _operation(line)
            if operation in COLLECTIVES:
                times[operation] += repeats
                nbytes[operation] += repeats * _bytes(result)
            trips = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
            for called in re.findall(r"(?:body|to_apply|_computation)=%([\w.-]+)", line):
                visit(called, repeats * (int(trips[1]) if trips else 1))
            for branches in re.findall(r"branch_computations=\{([^}]*)\}", line):
                for branch in branches.split(", "):
                    visit(branch.removeprefix("%"), repeats)

    visit(next(name for name in bodies if name.startswith("ENTRY ")), 1)
    return {name: {"times": times[name], "bytes": nbytes[name]} for name in sorted(times)}


def _computations(program: str) -> Iterator[tuple[str, list[str]]]:
    for block in re.split(r"\n(?=ENTRY |%)", program):
        header, *lines = block.splitlines()
        if named := re.match(r"(ENTRY )?%([\w.-]+) \(", header):
            yield (named[1] or "") + named[2], lines


def _operation(line: str) -> tuple[str, str]:
    """Return the type of an instruction's result, and the instruction's name."""
    found = re.match(r"\s+(?:ROOT )?%[\w.-]+ = (\(.*?\)|\S+) ([\w-]+)\(", line)
    return (found[1], found[2].removesuffix("-start")) if found else ("", "")


def _bytes(result: str) -> int:
    sizes = {"pred": 1, "bf16": 2}
    return sum(
        (sizes.get(dtype) or int(dtype[1:]) // 8)
        * math.prod(map(int, filter(None, dims.split(","))))
        for dtype, dims in re.findall(r"(\w+)\[([\d,]*)\]", result)
    )


def expected(agent: Any, devices: int) -> dict[str, dict[str, int]]:
    """Return what the model says of an update of PPO on so many devices."""
    if devices == 1:
        return {}
    steps = agent.config.optimizer_steps(1)
    key = jax.random.key(0)
    state = jax.eval_shape(agent.init, key)
    sequences = jax.eval_shape(
        lambda state, key: agent._sequences(state, *agent._rollout(state, key)), state, key
    )
    # The networks read neither the previous action nor the reward, and the loss no termination.
    transitions = sequences.transitions
    timestep = transitions.timestep
    sequences = replace(
        sequences,
        transitions=(timestep.observation, timestep.done, transitions.action, transitions.cut_off),
    )
    step_times, step_numbers = SCALARS["optimizer step"]
    update_times, update_numbers = SCALARS["update"]
    return {
        "all-gather": {
            "times": len(jax.tree.leaves(sequences)),
            "bytes": _tree_bytes(sequences),
        },
        "all-reduce": {
            "times": steps * step_times + update_times,
            "bytes": steps * (_tree_bytes(state.params) + 4 * step_numbers) + 4 * update_numbers,
        },
    }


def _tree_bytes(tree: Any) -> int:
    return sum(leaf.size * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(tree))


def measure(devices: int) -> dict[str, dict[str, int]]:
    """Compile an update for so many devices and count."""
    agent = make_agent(CONFIG, CONFIG.torso)
    mesh = make_mesh(Devices(devices), CONFIG, {CONFIG.torso: agent})
    program: Any = Program(mesh, CONFIG, CONFIG.torso, agent).compiled(agent.steps_per_update)
    return count_collectives(program.as_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    os.environ["XLA_FLAGS"] = (
        f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={LARGEST}"
    )
    agent = make_agent(CONFIG, CONFIG.torso)
    rows = [
        {"devices": devices, "counted": measure(devices), "expected": expected(agent, devices)}
        for devices in (2**power for power in range(LARGEST.bit_length()))
    ]
    if arguments.json:
        print(json.dumps(rows))
        return
    print("| devices | operation | times | expected | bytes | expected |")
    print("|---|---|---|---|---|---|")
    nothing = {"times": 0, "bytes": 0}
    for row in rows:
        for name in sorted(row["counted"].keys() | row["expected"].keys() | {"all-reduce"}):
            counted, said = (row[side].get(name, nothing) for side in ("counted", "expected"))
            print(
                f"| {row['devices']} | {name} | {counted['times']} | {said['times']} "
                f"| {counted['bytes']:,} | {said['bytes']:,} |"
            )


if __name__ == "__main__":
    main()
