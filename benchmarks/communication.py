"""What devices send each other while PPO, PQN and R2D2 train, counted in the compiled program.

An update is compiled for 1 to 64 devices, which the host simulates, and the collective operations
that it executes are counted with their bytes: those in a loop as often as the loop runs. Beside
them is what the model of docs/devices.md says. With ``--growth`` each algorithm is compiled again
with more environments, longer rollouts and a larger replay. Nothing is trained.
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

from memorax.algorithms import PPOConfig, PQNConfig, R2D2Config
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
SHORT_ROLLOUTS = {"num_envs": 128, "num_steps": 4}
IN_GROUPS = {"num_minibatches": 2, "update_epochs": 2, "minibatch_groups": LARGEST}
ALGORITHMS: dict[str, Any] = {
    "ppo": PPOConfig(**SHORT_ROLLOUTS, **IN_GROUPS),
    "pqn": PQNConfig(**SHORT_ROLLOUTS, **IN_GROUPS),
    "r2d2": R2D2Config(
        **SHORT_ROLLOUTS,
        sequence_length=8,
        burn_in_length=0,
        batch_size=LARGEST,
        buffer_size=8192,
        learning_starts=1024,
        gradient_steps=2,
    ),
}
GROWN = {"num_envs": 256, "num_steps": 8, "buffer_size": 16 * 8192}
"""What ``--growth`` compiles each algorithm with, one at a time."""
SCALARS = {"optimizer step": (6, 11), "update": (2, 3)}
"""Collectives and numbers in them that are about losses, advantages, targets and episodes."""


def collectives(program: str) -> Iterator[tuple[str, int, int]]:
    """Yield each collective operation of a compiled program, its bytes, and how often it runs.

    Args:
        program: Its text, as ``compiled.as_text()`` has it. Bytes are those of the results, whole.
    """
    bodies = dict(_computations(program))

    def visit(name: str, repeats: int) -> Iterator[tuple[str, int, int]]:
        for line in bodies[name]:
            result, operation = _operation(line)
            if operation in COLLECTIVES:
                yield operation, _bytes(result), repeats
            trips = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
            for called in re.findall(r"(?:body|to_apply|_computation)=%([\w.-]+)", line):
                yield from visit(called, repeats * (int(trips[1]) if trips else 1))
            for branches in re.findall(r"branch_computations=\{([^}]*)\}", line):
                for branch in branches.split(", "):
                    yield from visit(branch.removeprefix("%"), repeats)

    yield from visit(next(name for name in bodies if name.startswith("ENTRY ")), 1)


def count_collectives(program: str) -> dict[str, dict[str, int]]:
    """Return how often a compiled program executes each collective operation, and their bytes."""
    times, nbytes = Counter(), Counter()
    for operation, size, repeats in collectives(program):
        times[operation] += repeats
        nbytes[operation] += repeats * size
    return {name: {"times": times[name], "bytes": nbytes[name]} for name in sorted(times)}


def count_gradients(program: str, parameter_bytes: int) -> int:
    """Return how many all-reduces have the size of the gradients, and of a few losses with them."""
    return sum(
        repeats
        for operation, size, repeats in collectives(program)
        if operation == "all-reduce" and 0 <= size - parameter_bytes <= 32
    )


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
        transitions=(
            timestep.observation,
            timestep.done,
            transitions.action,
            transitions.truncated,
        ),
    )
    step_times, step_numbers = SCALARS["optimizer step"]
    update_times, update_numbers = SCALARS["update"]
    return {
        "all-gather": {
            "times": len(jax.tree.leaves(sequences)),
            "bytes": tree_bytes(sequences),
        },
        "all-reduce": {
            "times": steps * step_times + update_times,
            "bytes": steps * (tree_bytes(state.params) + 4 * step_numbers) + 4 * update_numbers,
        },
    }


def tree_bytes(tree: Any) -> int:
    return sum(leaf.size * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(tree))


def compile_update(devices: int, config: TrainConfig) -> tuple[Any, str]:
    """Compile an update for so many devices; return the agent and the program's text."""
    agent = make_agent(config, config.torso)
    mesh = make_mesh(Devices(devices), config, {config.torso: agent})
    program: Any = Program(mesh, config, config.torso, agent).compiled(agent.steps_per_update)
    return agent, program.as_text()


def measure(devices: int) -> dict[str, dict[str, int]]:
    """Compile an update for so many devices and count."""
    return count_collectives(compile_update(devices, CONFIG)[1])


def measure_growth(name: str, devices: int, field: str | None) -> dict[str, Any]:
    """Compile an update of an algorithm, with one of its sizes grown, and count."""
    algorithm = ALGORITHMS[name]
    if field is not None:
        algorithm = replace(algorithm, **{field: GROWN[field]})
    agent, program = compile_update(devices, replace(CONFIG, algorithm=algorithm))
    parameter_bytes = tree_bytes(jax.eval_shape(agent.init, jax.random.key(0)).params)
    return {
        "algorithm": name,
        "devices": devices,
        "grown": field,
        "parameter bytes": parameter_bytes,
        "gradient steps": getattr(algorithm, "gradient_steps", None)
        or algorithm.optimizer_steps(1),
        "all-reduces of gradients": count_gradients(program, parameter_bytes),
        "counted": count_collectives(program),
    }


def report_growth(as_json: bool) -> None:
    """Print what each algorithm's devices send, and what they send with each size grown."""
    rows = [
        measure_growth(name, devices, field)
        for devices in (8, LARGEST)
        for name, algorithm in ALGORITHMS.items()
        for field in (None, *(field for field in GROWN if hasattr(algorithm, field)))
    ]
    if as_json:
        print(json.dumps(rows))
        return
    print(
        "| algorithm | devices | grown | gradient steps | all-reduces of gradients | collectives |"
    )
    print("|---|---|---|---|---|---|")
    for row in rows:
        counted = ", ".join(
            f"{count['times']} {name} of {count['bytes']:,} bytes"
            for name, count in row["counted"].items()
        )
        print(
            f"| {row['algorithm']} | {row['devices']} | {row['grown'] or '-'} "
            f"| {row['gradient steps']} | {row['all-reduces of gradients']} | {counted} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--growth", action="store_true", help="grow environments, time and replay")
    arguments = parser.parse_args()
    os.environ["XLA_FLAGS"] = (
        f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={LARGEST}"
    )
    if arguments.growth:
        report_growth(arguments.json)
        return
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
