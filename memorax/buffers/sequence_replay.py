"""Replay of whole sequences, each with the carry that it began with."""

import math
import os
from typing import Any

import flashbax
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, PyTree

from memorax.validation import check_between, check_positive


@struct.dataclass
class ReplaySample:
    """Sequences drawn from a replay.

    Attributes:
        sequences: What was added, leading with the batch.
        indices: Where they stand, for ``update_priorities``; ``None`` if they are drawn uniformly.
        probabilities: How likely each was to be drawn, ``(batch,)``; ``None`` if uniformly.
    """

    sequences: PyTree
    indices: PyTree
    probabilities: PyTree


class SequenceReplay:
    """The latest sequences of each environment, drawn uniformly or by priority.

    A sequence is any pytree of arrays, kept in their own dtypes; what counts as one, and how it
    starts, is the algorithm's business. Pure functions on flashbax's trajectory buffers, where a
    sequence takes the place of a step.

    Args:
        num_envs: Sequences added at a time.
        capacity: Sequences kept, a multiple of ``num_envs``; the oldest make room.
        batch_size: Sequences drawn at a time.
        priority_exponent: How much priorities count, 0 not at all and 1 in proportion; ``None``
            draws uniformly and keeps no priorities. New sequences get the largest priority so far.

    Raises:
        ValueError: If a size is not positive, ``capacity`` is not a multiple of ``num_envs`` or
            below ``batch_size``, or ``priority_exponent`` is not between 0 and 1.

    Source: Kapturowski et al. 2019, "Recurrent Experience Replay in Distributed Reinforcement
        Learning", section 2.3; Schaul et al. 2016, arXiv 1511.05952 (priorities).
    """

    def __init__(
        self,
        num_envs: int,
        capacity: int,
        batch_size: int,
        priority_exponent: float | None = None,
    ):
        for name, value in (
            ("num_envs", num_envs),
            ("capacity", capacity),
            ("batch_size", batch_size),
        ):
            check_positive(f"SequenceReplay.{name}", value)
        if priority_exponent is not None:
            check_between("SequenceReplay.priority_exponent", priority_exponent, 0.0, 1.0)
        if capacity % num_envs:
            raise ValueError(
                "SequenceReplay.capacity must be a multiple of num_envs, got "
                f"capacity={capacity}, num_envs={num_envs}"
            )
        if capacity < batch_size:
            raise ValueError(
                "SequenceReplay.capacity must hold at least a batch, got "
                f"capacity={capacity}, batch_size={batch_size}"
            )
        self.num_envs = num_envs
        self.capacity = capacity
        self.prioritized = priority_exponent is not None
        sizes = {
            "add_batch_size": num_envs,
            "sample_batch_size": batch_size,
            "sample_sequence_length": 1,
            "period": 1,
            "min_length_time_axis": 1,
            "max_length_time_axis": capacity // num_envs,
        }
        if priority_exponent is None:
            self._buffer: Any = flashbax.make_trajectory_buffer(**sizes)
        else:
            self._buffer = flashbax.make_prioritised_trajectory_buffer(
                **sizes, priority_exponent=priority_exponent, device=jax.default_backend()
            )

    def num_bytes(self, sequence: PyTree) -> int:
        """Return how many bytes a replay of sequences like this one takes, allocating nothing.

        Args:
            sequence: One sequence, concrete or abstract, without a batch.
        """
        return self.capacity * tree_bytes(sequence)

    def check_memory(self, field: str, sequence: PyTree, copies: int = 1) -> None:
        """Raise ``ValueError`` if the replay would not fit into the machine's memory.

        Args:
            field: What sets the size, for the message, such as ``"DQNConfig.buffer_size"``.
            sequence: One sequence, concrete or abstract, without a batch.
            copies: How many replays there will be, as one for each seed.
        """
        needed, there = copies * self.num_bytes(sequence), _memory_bytes()
        if needed > there:
            raise ValueError(
                f"{field}: the replay would take {needed / 2**30:.1f} GiB ({self.capacity:,} "
                f"sequences of {tree_bytes(sequence):,} bytes, {copies} times), more than the "
                f"{there / 2**30:.1f} GiB that there are"
            )

    def init(self, sequence: PyTree) -> PyTree:
        """Return an empty replay of sequences like this one, given without a batch."""
        return self._buffer.init(sequence)

    def add(self, state: PyTree, sequences: PyTree) -> PyTree:
        """Add one sequence of each environment.

        Args:
            state: The replay.
            sequences: Leading with ``num_envs``.
        """
        return self._buffer.add(state, jax.tree.map(lambda leaf: leaf[:, None], sequences))

    def sample(self, state: PyTree, key: Array) -> ReplaySample:
        """Draw ``batch_size`` sequences with replacement; there must be at least one."""
        sample = self._buffer.sample(state, key)
        sequences = jax.tree.map(lambda leaf: leaf[:, 0], sample.experience)
        if not self.prioritized:
            return ReplaySample(sequences, None, None)
        return ReplaySample(sequences, sample.indices, sample.probabilities)

    def update_priorities(
        self, state: PyTree, indices: Array, priorities: Float[Array, "batch"]
    ) -> PyTree:
        """Set the priorities of sequences that were drawn.

        Args:
            state: The replay.
            indices: The sample's ``indices``.
            priorities: Not negative; a sequence of priority 0 is not drawn again.
        """
        return self._buffer.set_priorities(state, indices, priorities)

    def num_sequences(self, state: PyTree) -> Array:
        """Return how many sequences the replay holds."""
        rows = jnp.where(state.is_full, self.capacity // self.num_envs, state.current_index)
        return rows * self.num_envs


def tree_bytes(tree: PyTree) -> int:
    """Return the bytes of all arrays of a pytree, concrete or abstract."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _memory_bytes() -> int:
    """Return the memory of the device that arrays go to; on CPU that of the machine."""
    statistics = jax.local_devices()[0].memory_stats()
    if statistics and "bytes_limit" in statistics:
        return statistics["bytes_limit"]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
