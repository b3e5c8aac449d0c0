"""What PPO's update costs on one and two processes, and what a model predicts for more devices.

One process and two, which connect through gloo, take turns to train the same total number of
environments. Each process is pinned to a core of its own if the machine allows it as many; if they
share one, what two take longer is the cost of communication. The model is that of
docs/scaling.md::

    seconds = compute / D + all_reduces (2 ceil(log2 D) latency) + bytes 2 (D - 1) / D / bandwidth
"""

import json
import math
import os
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

import jax
import tyro

from memorax.algorithms import PPOConfig
from memorax.experiments.run.agents import make_agent
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.devices import Devices, make_mesh
from memorax.experiments.run.program import Program

CONFIG = TrainConfig(
    environment="gymnax::CartPole-v1",
    features=64,
    num_seeds=1,
    memoryless_twin=False,
    algorithm=PPOConfig(num_envs=32, num_steps=64, minibatch_groups=8),
)
ALL_REDUCES_OF_A_STEP, ALL_REDUCES_OF_AN_UPDATE, SCALAR_BYTES = 6, 2, 44
"""As ``communication.py`` counts them in the compiled program."""


@dataclass(frozen=True)
class Network:
    """A network between devices, as its maker describes it; not measured here."""

    devices: int
    latency: float
    """Seconds that a message takes from one device to the next."""
    bandwidth: float
    """Bytes a second over each link."""


NETWORKS = {
    "8 GPUs of one host, NVLink": Network(8, 5e-6, 300e9),
    "64 hosts, 100 Gb/s": Network(64, 20e-6, 12.5e9),
}
COMPUTE_SECONDS = (0.01, 0.1, 1.0)
"""An update's computation on one device, for the predictions."""


def predicted_seconds(
    compute: float, network: Network, steps: int, parameter_bytes: int
) -> tuple[float, float]:
    """Return the seconds of computation and of communication of an update."""
    devices = network.devices
    all_reduces = steps * ALL_REDUCES_OF_A_STEP + ALL_REDUCES_OF_AN_UPDATE
    sent = steps * (parameter_bytes + SCALAR_BYTES) * 2 * (devices - 1) / devices
    waiting = all_reduces * 2 * math.ceil(math.log2(devices)) * network.latency
    return compute / devices, waiting + sent / network.bandwidth


@dataclass
class Options:
    """Measure one and two processes, and predict more."""

    repeats: int = 3
    """Times that one process and two take turns."""
    updates: int = 4
    """Updates of each timing, the median of which counts."""
    process: int | None = None
    """Which of the processes to be; set, like what follows, by the script that starts them."""
    num_processes: int = 1
    port: int = 0


def train(options: Options) -> dict[str, float]:
    """Train as one of the processes; return the seconds of an update and the parameters' bytes."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[options.process % len(cores)]})
    if options.num_processes > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(
            f"127.0.0.1:{options.port}",
            options.num_processes,
            options.process,
            cluster_detection_method="deactivate",
        )
    agent = make_agent(CONFIG, CONFIG.torso)
    mesh = make_mesh(Devices(options.num_processes), CONFIG, {CONFIG.torso: agent})
    program = Program(mesh, CONFIG, CONFIG.torso, agent)
    state, seconds = program.init(), []
    parameter_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(state.params))
    for update in range(1 + options.updates):
        started = time.perf_counter()
        state, _ = program.train(update * agent.steps_per_update, agent.steps_per_update, state)
        # The first compiles.
        if update:
            seconds.append(time.perf_counter() - started)
    return {"seconds": statistics.median(seconds), "parameter bytes": parameter_bytes}


def run_processes(number: int, options: Options) -> dict[str, float]:
    """Let so many processes train together; return what the first has measured."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["--num-processes", number, "--port", port, "--updates", options.updates, "--process"]
    started = [
        subprocess.Popen(
            [sys.executable, __file__, *map(str, words), str(process)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for process in range(number)
    ]
    outputs = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise SystemExit(1)
    return json.loads(outputs[0].splitlines()[-1])


def main() -> None:
    options = tyro.cli(Options)
    if options.process is not None:
        print(json.dumps(train(options)))
        return
    measured = {1: [], 2: []}
    for _ in range(options.repeats):
        for number, results in measured.items():
            results.append(run_processes(number, options))
    seconds = {
        number: statistics.median(result["seconds"] for result in results)
        for number, results in measured.items()
    }
    parameter_bytes = int(measured[1][0]["parameter bytes"])
    steps = CONFIG.algorithm.optimizer_steps(1)
    cores = min(2, len(os.sched_getaffinity(0)))
    print(f"two processes on {cores} core(s), jax {jax.__version__}, cpu\n")
    print("| processes | ms an update | of one process |")
    print("|---|---|---|")
    for number, value in seconds.items():
        print(f"| {number} | {1e3 * value:.1f} | {value / seconds[1]:.2f} |")
    print(
        "\n| network | an update on one device | computation ms | communication ms | efficiency |"
    )
    print("|---|---|---|---|---|")
    for name, network in NETWORKS.items():
        for compute in COMPUTE_SECONDS:
            shared, sending = predicted_seconds(compute, network, steps, parameter_bytes)
            print(
                f"| {name} | {1e3 * compute:,.0f} ms | {1e3 * shared:.2f} | {1e3 * sending:.2f} "
                f"| {shared / (shared + sending):.0%} |"
            )


if __name__ == "__main__":
    main()
