"""Replay for recurrent agents."""

from memorax.buffers.sequence_replay import ReplaySample, SequenceReplay, tree_bytes

__all__ = ["ReplaySample", "SequenceReplay", "tree_bytes"]
