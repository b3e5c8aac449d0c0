"""Schedules of an algorithm that do not end within the run."""

import dataclasses
from typing import Any

from memorax.experiments.run.config import TrainConfig

SHARE_OF_WARM_UP = 10
SHARE_OF_EXPLORATION = 4
"""A schedule that a short run shortens takes one in so many of its steps."""


def fit_schedules(config: TrainConfig[Any]) -> tuple[Any, list[str]]:
    """Return the algorithm's configuration with schedules that take effect within the run.

    Defaults that are longer than the run are shortened to a share of it.

    Args:
        config: The run's configuration.

    Returns:
        The algorithm's configuration, and a line for each schedule that was shortened.

    Raises:
        ValueError: If a schedule that is not the default is longer than the run.
    """
    algorithm, lines = config.algorithm, []
    defaults = {field.name: field.default for field in dataclasses.fields(algorithm)}
    for name, share in (
        ("learning_starts", SHARE_OF_WARM_UP),
        ("epsilon_decay_steps", SHARE_OF_EXPLORATION),
    ):
        steps = getattr(algorithm, name, 0)
        if steps < config.total_steps:
            continue
        if steps != defaults[name]:
            raise ValueError(
                f"{name} must be less than total_steps, or it would not end within the run, got "
                f"{name}={steps}, total_steps={config.total_steps}"
            )
        shorter = max(1, config.total_steps // share)
        algorithm = dataclasses.replace(algorithm, **{name: shorter})
        lines.append(f"{name}: {shorter:,} steps, since the run has only {config.total_steps:,}")
    period = getattr(algorithm, "target_update_period", 1)
    num_updates = -(-config.total_steps // (algorithm.num_envs * algorithm.num_steps))
    gradient_steps = algorithm.optimizer_steps(num_updates)
    if period > max(1, gradient_steps):
        raise ValueError(
            "target_update_period must be at most the gradient steps of the run, or the target "
            f"network stays as it was initialised, got target_update_period={period}, "
            f"gradient steps={gradient_steps}"
        )
    return algorithm, lines
