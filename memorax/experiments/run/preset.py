"""From a preset to a configuration."""

import dataclasses
import json
from typing import Any

from memorax.catalog.algorithms import ALGORITHMS
from memorax.experiments.presets.preset import Preset
from memorax.experiments.run.config import TrainConfig, run_from_fields, to_fields

OF_THE_MACHINE = (
    *("seed", "checkpoint_every", "keep_checkpoints", "on_write_error", "loggers"),
    *("evaluation_episodes", "evaluation_steps"),
)
"""Fields of a run that no preset sets: they do not change what is learned."""


def with_preset(config: TrainConfig[Any], preset: Preset | None) -> TrainConfig[Any]:
    """Return a configuration with the settings of a preset.

    Args:
        config: The values of fields that the preset does not set; an algorithm's own options have
            their defaults if the preset is of another algorithm.
        preset: The preset; None: the configuration stays as it is.

    Raises:
        ValueError: If the settings are not a valid configuration.
    """
    if preset is None:
        return config
    settings = preset.settings
    if config.algorithm_name != preset.algorithm:
        config = dataclasses.replace(config, algorithm=ALGORITHMS[preset.algorithm].config())
    fields = to_fields(config)
    fields |= settings | {"algorithm": fields["algorithm"] | settings["algorithm"]}
    # Through JSON, so that tuples become lists, as in a file.
    return run_from_fields(json.loads(json.dumps(fields)))


def preset_settings(config: TrainConfig[Any]) -> dict[str, Any]:
    """Return the settings of a preset that makes runs with this configuration."""
    return {name: value for name, value in to_fields(config).items() if name not in OF_THE_MACHINE}
