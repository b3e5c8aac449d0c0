"""Environments by name, and wrappers around them.

The examples of the classes start from these lines.

Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> from memorax.environments import *
    >>> env, params = make("memory::StatelessCartPoleEasy")
    >>> key, action = jax.random.key(0), jnp.int32(0)
"""

from memorax.environments.environment import Environment
from memorax.environments.processes.environment import process_failure, release, runs_in_processes
from memorax.environments.registration import SUITES, adapt, make, names
from memorax.environments.spaces import Box, Discrete, MultiDiscrete, Space
from memorax.environments.wrappers.actions_and_rewards import (
    ClipAction,
    ClipReward,
    ScaleReward,
    StickyAction,
)
from memorax.environments.wrappers.base import Wrapper
from memorax.environments.wrappers.episode_statistics import RecordEpisodeStatistics
from memorax.environments.wrappers.normalization import NormalizeObservation, NormalizeReward
from memorax.environments.wrappers.observations import (
    FlattenObservation,
    FlickerObservation,
    MaskObservation,
    NoisyObservation,
    ShowPreviousInputs,
)
from memorax.environments.wrappers.recent_observations import DelayObservation, StackObservations
from memorax.environments.wrappers.time_limits import ShowFinalObservation
from memorax.environments.wrappers.vectorize import Vectorize

__all__ = [
    "SUITES",
    "Box",
    "ClipAction",
    "ClipReward",
    "DelayObservation",
    "Discrete",
    "Environment",
    "FlattenObservation",
    "FlickerObservation",
    "MaskObservation",
    "MultiDiscrete",
    "NoisyObservation",
    "NormalizeObservation",
    "NormalizeReward",
    "RecordEpisodeStatistics",
    "ScaleReward",
    "ShowFinalObservation",
    "ShowPreviousInputs",
    "Space",
    "StackObservations",
    "StickyAction",
    "Vectorize",
    "Wrapper",
    "adapt",
    "make",
    "names",
    "process_failure",
    "release",
    "runs_in_processes",
]
