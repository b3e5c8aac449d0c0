"""Tasks by name, and what can be put around them."""

from memorax.environments.environment import Environment
from memorax.environments.processes import process_failure, release
from memorax.environments.registration import SUITES, adapt, make, names
from memorax.environments.spaces import Box, Discrete, Space
from memorax.environments.wrappers import (
    ClipAction,
    FlattenObservation,
    RecordEpisodeStatistics,
    ShowFinalObservation,
    Vectorize,
    Wrapper,
)

__all__ = [
    "SUITES",
    "Box",
    "ClipAction",
    "Discrete",
    "Environment",
    "FlattenObservation",
    "RecordEpisodeStatistics",
    "ShowFinalObservation",
    "Space",
    "Vectorize",
    "Wrapper",
    "adapt",
    "make",
    "names",
    "process_failure",
    "release",
]
