"""Tasks by name, and what can be put around them."""

from memorax.environments.environment import Environment
from memorax.environments.registration import adapt, make
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
]
