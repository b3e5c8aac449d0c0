"""Replay for recurrent agents."""

from memorax.buffers.sequence_replay import (
    Priorities,
    ReplayBuffer,
    ReplaySample,
    SequenceReplay,
    importance_weights,
    tree_bytes,
)

__all__ = [
    "Priorities",
    "ReplayBuffer",
    "ReplaySample",
    "SequenceReplay",
    "importance_weights",
    "tree_bytes",
]
