"""Every algorithm by its defaults, with three memories each, trained for millions of steps.

What a long run must not do: end in a loss that is not finite, lose what it had learned, take more
and more memory, or become slower. The parts of a run, twenty of them, say how each went.

A run that is in the output folder is not made again, so that a soak can be stopped and repeated.
"""

import json
import os
import resource
import time
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import tyro

from memorax.catalog.algorithms import ALGORITHMS
from memorax.experiments.run.agents import make_agent
from memorax.experiments.run.config import TrainConfig

PARTS = 20
TASKS = {"sac": "gymnax::Pendulum-v1"}
TASK = "memory::RepeatPreviousEasy"
Name = Literal["ppo", "dqn", "r2d2", "pqn", "sac"]


def soak(algorithm: str, torso: str, total_steps: int) -> dict:
    """Train one agent, and return how each part of it went."""
    environment = TASKS.get(algorithm, TASK)
    config = TrainConfig(
        environment=environment,
        torso=torso,
        algorithm=ALGORITHMS[algorithm].config(),
        total_steps=total_steps,
    )
    agent = make_agent(config, torso)
    updates = -(-total_steps // PARTS // agent.steps_per_update)
    train = jax.jit(agent.train, static_argnums=2, donate_argnums=1)
    init_key, key = jax.random.split(jax.random.key(config.seed))
    state, parts = jax.block_until_ready(agent.init(init_key)), []
    learning = False
    for part in range(PARTS):
        started = time.perf_counter()
        state, metrics = train(
            jax.random.fold_in(key, part), state, updates * agent.steps_per_update
        )
        metrics = jax.tree.map(np.asarray, metrics)
        seconds = time.perf_counter() - started
        # Until learning starts there are no losses.
        losses = np.stack([value for name, value in metrics.items() if "loss" in name])
        learning = np.logical_or.accumulate(~np.isnan(losses).all(axis=0)) | learning
        parts.append(
            {
                "step": (part + 1) * updates * agent.steps_per_update,
                "return": float(np.nanmean(metrics["episode_return"])),
                "finite": bool(np.isfinite(losses[:, learning]).all()),
                "gradient_norm": float(metrics["gradient_norm"][learning].max(initial=0)),
                "steps_per_second": updates * agent.steps_per_update / seconds,
                "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
        learning = learning[-1]
    return {
        "algorithm": algorithm,
        "torso": torso,
        "environment": environment,
        "parts": parts,
    }


def row_of(run: dict) -> str:
    """Return a run as a row of the table."""
    parts = run["parts"]
    returns = [part["return"] for part in parts]
    # The first part compiles.
    speeds = [part["steps_per_second"] for part in parts[1:]]
    grown = parts[-1]["peak_megabytes"] - parts[1]["peak_megabytes"]
    cells = (
        *(run["algorithm"], run["torso"], run["environment"], f"{parts[-1]['step']:,}"),
        *("yes" if all(part["finite"] for part in parts) else "no", f"{max(returns):.2f}"),
        f"{np.mean(returns[-PARTS // 4 :]):.2f}",
        f"{max(part['gradient_norm'] for part in parts):.2g}",
        *(f"{grown:+.0f}", f"{speeds[-1] / np.median(speeds):.2f}"),
    )
    return "| " + " | ".join(cells) + " |"


def main(
    output: Path,
    algorithms: tuple[Name, ...] = ("ppo", "pqn", "dqn", "r2d2", "sac"),
    torsos: tuple[str, ...] = ("gru", "lru", "mamba2"),
    total_steps: int = 5_000_000,
) -> None:
    """Train, and write ``soak.json`` and ``soak.md``.

    Args:
        output: The folder to write to.
        algorithms: Which algorithms.
        torsos: Each with which memories.
        total_steps: Environment steps of each run.
    """
    output.mkdir(parents=True, exist_ok=True)
    path = output / "soak.json"
    runs = json.loads(path.read_text()) if path.exists() else []
    made = {(run["algorithm"], run["torso"]) for run in runs}
    for algorithm in algorithms:
        for torso in torsos:
            if (algorithm, torso) in made:
                continue
            runs.append(soak(algorithm, torso, total_steps))
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(runs, indent=1) + "\n")
            os.replace(partial, path)
            print(row_of(runs[-1]), flush=True)
    head = (
        "algorithm | memory | task | steps | losses finite | best part | last quarter | "
        "largest gradient norm | memory grown (MB) | speed at the end"
    )
    rule = "|".join(["---"] * (head.count("|") + 1))
    table = "\n".join([f"| {head} |", f"|{rule}|", *map(row_of, runs)])
    (output / "soak.md").write_text(table + "\n")


if __name__ == "__main__":
    tyro.cli(main)
