"""Replay of whole sequences, each with the carry that it began with."""

import math
import os
from dataclasses import replace

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int, PyTree

from memorax.buffers.sum_tree import (
    LEAST_WEIGHT,
    draw_leaves,
    get_weights,
    init_tree,
    set_weights,
    total_weight,
    tree_size,
)
from memorax.validation import check_between, check_positive


@struct.dataclass
class Priorities:
    """How likely each sequence is to be drawn.

    Attributes:
        tree: The sum tree of priorities to the power of ``priority_exponent``, 0 where no sequence
            is. Its leaves are sequences, those of an environment side by side.
        largest: The largest of these that ``update_priorities`` was given, 0 before the first.
    """

    tree: PyTree
    largest: PyTree


@struct.dataclass
class ReplayBuffer:
    """The sequences of a replay: for each environment a ring, written at the same place in all.

    Attributes:
        sequences: ``(num_envs, capacity / num_envs, ...)``.
        next_row: Where the next sequences are written, on the second axis.
        num_rows: How much of the second axis has been written.
        priorities: ``Priorities``, or ``()`` if sequences are drawn uniformly.
    """

    sequences: PyTree
    next_row: PyTree
    num_rows: PyTree
    priorities: PyTree


@struct.dataclass
class ReplaySample:
    """Sequences drawn from a replay.

    Attributes:
        sequences: What was added, leading with the batch.
        indices: Their positions, for ``update_priorities``; ``None`` if they are drawn uniformly.
        probabilities: How likely each was to be drawn, ``(batch,)``; ``None`` if uniformly.
    """

    sequences: PyTree
    indices: PyTree
    probabilities: PyTree


class SequenceReplay:
    """The latest sequences of each environment, drawn uniformly or by priority.

    A sequence is any pytree of arrays, kept in their own dtypes; what counts as one, and how it
    starts, is the algorithm's business. All methods are pure functions of a ``ReplayBuffer``: where
    it is donated, adding writes in place, in a time that does not grow with the capacity.

    Drawing by priority is stratified: each sequence of a batch comes from its own equal part of the
    total priority. Sequences never written or of priority 0 are never drawn.

    Args:
        num_envs: Sequences added at a time.
        capacity: Sequences kept, a multiple of ``num_envs``; the oldest make room.
        batch_size: Sequences drawn at a time.
        priority_exponent: How much priorities count, 0 not at all and 1 in proportion; ``None``
            draws uniformly and keeps no priorities. New sequences get the largest priority that any
            was given so far, and 1 before the first.

    Raises:
        ValueError: If a size is not positive, ``capacity`` is not a multiple of ``num_envs`` or
            below ``batch_size``, or ``priority_exponent`` is not between 0 and 1.

    Source: Kapturowski et al. 2019, "Recurrent Experience Replay in Distributed Reinforcement
        Learning", section 2.3; Schaul et al. 2016, arXiv 1511.05952, section 3.3 and appendix B.2.1
        (priorities).
    """

    def __init__(
        self,
        num_envs: int,
        capacity: int,
        batch_size: int,
        priority_exponent: float | Float[Array, ""] | None = None,
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
        self.batch_size = batch_size
        self.priority_exponent = priority_exponent

    @property
    def prioritized(self) -> bool:
        """Whether sequences are drawn by priority."""
        return self.priority_exponent is not None

    def num_bytes(self, sequence: PyTree) -> int:
        """Return the bytes that a replay of such sequences takes, without allocating it.

        Args:
            sequence: One sequence, concrete or abstract, without a batch.
        """
        tree = 4 * tree_size(self.capacity) if self.prioritized else 0
        return self.capacity * tree_bytes(sequence) + tree

    def check_replay_fits(self, field: str, sequence: PyTree, copies: int = 1) -> None:
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

    def init(self, sequence: PyTree) -> ReplayBuffer:
        """Return an empty replay of sequences like this one.

        Args:
            sequence: One sequence, concrete or abstract, without a batch.
        """
        shape = self.num_envs, self._rows
        return ReplayBuffer(
            sequences=jax.tree.map(
                lambda leaf: jnp.zeros((*shape, *leaf.shape), leaf.dtype), sequence
            ),
            next_row=jnp.int32(0),
            num_rows=jnp.int32(0),
            priorities=(
                Priorities(init_tree(self.capacity), jnp.float32(0)) if self.prioritized else ()
            ),
        )

    def add(self, buffer: ReplayBuffer, sequences: PyTree) -> ReplayBuffer:
        """Add one sequence of each environment.

        Args:
            buffer: The replay.
            sequences: Leading with ``num_envs``.

        Raises:
            ValueError: If a shape or dtype is not that of the replay.
        """

        def write(kept, new):
            expected = jax.ShapeDtypeStruct((self.num_envs, *kept.shape[2:]), kept.dtype)
            if (new.shape, new.dtype) != (expected.shape, expected.dtype):
                raise ValueError(
                    f"SequenceReplay.add: sequences must have arrays of {expected.dtype} "
                    f"{expected.shape}, got {new.dtype} {new.shape}"
                )
            return jax.lax.dynamic_update_slice_in_dim(kept, new[:, None], buffer.next_row, axis=1)

        priorities = buffer.priorities
        if self.prioritized:
            places = jnp.arange(self.num_envs, dtype=jnp.int32) * self._rows + buffer.next_row
            new = jnp.where(priorities.largest > 0, priorities.largest, 1.0)
            weights = jnp.full(self.num_envs, new)
            priorities = replace(priorities, tree=set_weights(priorities.tree, places, weights))
        return ReplayBuffer(
            sequences=jax.tree.map(write, buffer.sequences, sequences),
            next_row=(buffer.next_row + 1) % self._rows,
            num_rows=jnp.minimum(buffer.num_rows + 1, self._rows),
            priorities=priorities,
        )

    def sample(self, buffer: ReplayBuffer, key: Array) -> ReplaySample:
        """Draw ``batch_size`` sequences with replacement.

        Args:
            buffer: The replay, which must hold a sequence, and one of positive priority.
            key: A PRNG key.
        """
        indices, probabilities = None, None
        if self.prioritized:
            tree = buffer.priorities.tree
            indices = draw_leaves(tree, _stratified_fractions(key, self.batch_size))
            # The least of many orders of magnitude must not be rounded to 0, whose weight is none.
            probabilities = get_weights(tree, indices) / total_weight(tree)
            probabilities = jnp.maximum(probabilities, LEAST_WEIGHT)
            env, row = indices // self._rows, indices % self._rows
        else:
            rest, row_key = jax.random.split(key)
            _, env_key = jax.random.split(rest)
            env = jax.random.randint(env_key, (self.batch_size,), 0, self.num_envs)
            age = jax.random.randint(row_key, (self.batch_size,), 0, buffer.num_rows)
            row = (buffer.next_row - buffer.num_rows + age) % self._rows
        sequences = jax.tree.map(lambda leaf: leaf[env, row], buffer.sequences)
        return ReplaySample(sequences, indices, probabilities)

    def update_priorities(
        self,
        buffer: ReplayBuffer,
        indices: Int[Array, "batch"],
        priorities: Float[Array, "batch"],
    ) -> ReplayBuffer:
        """Set the priorities of sequences that were drawn.

        Args:
            buffer: The replay.
            indices: The sample's ``indices``.
            priorities: A sequence whose priority is not positive, or NaN, is not drawn again.

        Raises:
            ValueError: If the replay keeps no priorities.
        """
        if self.priority_exponent is None:
            raise ValueError(
                "SequenceReplay.update_priorities needs priority_exponent to be a number, got None"
            )
        # What is positive stays so, and the sum of all stays finite.
        weights = jnp.clip(
            priorities.astype(jnp.float32) ** self.priority_exponent,
            LEAST_WEIGHT,
            1e38 / self.capacity,
        )
        written = indices % self._rows < buffer.num_rows
        weights = jnp.where(written & (priorities > 0), weights, 0.0)
        kept = buffer.priorities
        return replace(
            buffer,
            priorities=Priorities(
                tree=set_weights(kept.tree, indices, weights),
                largest=jnp.maximum(kept.largest, weights.max()),
            ),
        )

    def num_sequences(self, buffer: ReplayBuffer) -> Int[Array, ""]:
        """Return how many sequences the replay holds."""
        return buffer.num_rows * self.num_envs

    @property
    def _rows(self) -> int:
        return self.capacity // self.num_envs


def importance_weights(
    probabilities: Float[Array, "batch"], exponent: float | Float[Array, ""]
) -> Float[Array, "batch"]:
    """Return importance weights that correct for drawing by priority, at most 1 and finite.

    With P the probabilities and N sequences, ``(N P)^-exponent`` divided by the largest of the
    batch, which is ``(min P / P)^exponent``.

    Args:
        probabilities: The sample's ``probabilities``.
        exponent: Strength of the correction, from 0 to 1.

    Source: Schaul et al. 2016, arXiv 1511.05952, section 3.4.
    """
    return (probabilities.min() / probabilities) ** exponent


def _stratified_fractions(key: Array, batch_size: int) -> Float[Array, "batch"]:
    """Draw one number in each of as many equal parts of 0 to 1; rounding may make the last 1."""
    bounds = jnp.linspace(0.0, 1.0, batch_size + 1)
    keys = jax.random.split(key, batch_size)
    return jax.vmap(lambda key, low, high: jax.random.uniform(key, (), jnp.float32, low, high))(
        keys, bounds[:-1], bounds[1:]
    )


def tree_bytes(tree: PyTree) -> int:
    """Return the bytes of all arrays of a pytree, concrete or abstract."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _memory_bytes() -> int:
    """Return the memory of the device that arrays go to; on CPU that of the machine."""
    statistics = jax.local_devices()[0].memory_stats()
    if statistics and "bytes_limit" in statistics:
        return statistics["bytes_limit"]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
