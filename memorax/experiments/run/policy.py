"""The agent of a run, one step at a time."""

from pathlib import Path

import jax

from memorax.algorithms.policy import PolicyStep
from memorax.experiments.run.folder import RunFolder
from memorax.experiments.run.options import Choice
from memorax.experiments.run.training import make_agents, restore
from memorax.validation import check_integer, unknown_name


def load_step(run: Path, model: str | None, seed: int, checkpoint: Choice = "last") -> PolicyStep:
    """Return the step of one of a run's agents.

    Args:
        run: The run's folder.
        model: The torso's name; None: the run's own, not its memoryless twin.
        seed: Which of the run's seeds.
        checkpoint: The last one, or the best.

    Raises:
        ValueError: If there is no such run, model or seed, or no checkpoint.
        ModuleNotFoundError: If the task's suite is not installed.
    """
    folder = RunFolder.open(run)
    config = folder.config()
    model = config.torso if model is None else model
    if model not in config.models:
        raise ValueError(unknown_name(f"model of {run},", model, config.models))
    check_integer("seed", seed, 0, config.num_seeds - 1)
    agent = make_agents(config)[model]
    states = restore(config, model, agent, folder, checkpoint)
    state = jax.tree.map(lambda leaf: leaf[seed], states)
    return PolicyStep(agent, state, config.previous_inputs, f"torso {model}")
