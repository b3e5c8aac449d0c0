"""Attention of each step to a window of steps before it, never over an episode's start.

Scores of time x time are never formed. Queries are taken in blocks; each block meets only the keys
that one of its queries can see, so time and memory grow with the number of queries alone. The
backward pass forms the scores of a block again from what it kept: one number a query and head.

Where a block's scores are masked, the numbers under the mask may be of another episode. They are
made finite before any product (for 0 x NaN is NaN), and a query that does see a number that is not
finite gets NaN at the end, as it would from a plain softmax.

Blocks support reverse mode of first order, not forward mode (``jax.jvp``).
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from memorax.ops.implementation import on_cpu
from memorax.validation import check_positive, unknown_name

BLOCK_SIZE, ACCELERATOR_BLOCK_SIZE = 64, 256
"""Queries of a block: more see more keys than each of them needs, fewer make small products.
Measured on a CPU at windows of 128; an accelerator starts a kernel a block, so it has larger ones.
"""

MASKED = -1e30
"""A score that takes no part in a softmax, finite so that differences are."""

AttentionImplementation = Literal["auto", "blocks", "fused"]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["bias", "relative_key", "content_bias"],
    meta_fields=["frequencies", "interleaved"],
)
@dataclasses.dataclass(frozen=True)
class Positions:
    """What distance does to the score of a query q and the key k it sees n steps back.

    With R(n) the rotation of each pair of features by n times the pair's frequency::

        score = [(q + content_bias) . R(-n) k + q . relative_key[n]] / sqrt(head_dim) + bias[n]

    What is not given takes no part.

    Attributes:
        bias: ``(heads, window)``.
        relative_key: ``(window, heads, head_dim)``.
        content_bias: ``(heads, head_dim)``.
        frequencies: Radians a step, one for each pair of features from the first on.
        interleaved: Whether a pair is features 2i and 2i + 1, instead of i and i + pairs.
    """

    bias: Any = None
    relative_key: Any = None
    content_bias: Any = None
    frequencies: tuple[float, ...] = ()
    interleaved: bool = False


def sliding_window_attention(
    query: Float[Array, "batch heads time head_dim"],
    key: Float[Array, "batch key_heads keys head_dim"],
    value: Float[Array, "batch key_heads keys head_dim"],
    age: Int[Array, "batch time"],
    context_length: int,
    positions: Positions | None = None,
    memory: tuple[Float[Array, "batch key_heads old head_dim"], ...] | None = None,
    implementation: AttentionImplementation = "auto",
    block_size: int | None = None,
) -> Float[Array, "batch heads time head_dim"]:
    """Let each query attend to itself and what came up to ``context_length - 1`` steps before it.

    Over the steps n of the window that are no further back than the query's age::

        y[t] = sum of softmax(score of query[t] and key[t - n])[n] value[t - n]

    Args:
        query: One for each step. Several heads in a row may share a key: ``key_heads`` divides
            ``heads``.
        key: Those of the ``context_length - 1`` steps before the first query, then those of the
            queries' own steps, so that ``keys = context_length - 1 + time``.
        value: Like ``key``.
        age: How many steps of its episode lie before each query, as ``episode_age`` counts them.
            What is older, though it may be in ``key``, is not seen.
        context_length: Steps that a query sees at most, its own among them.
        positions: What distance does to scores; ``None``: nothing.
        memory: Keys and values of steps older than the context, which ends ``context_length``
            steps back: of the ``memory_length`` steps before those that the first query sees in
            its context, then of the next, ``memory_length - 1 + time`` in all. ``None``: none.
        implementation: ``"blocks"`` as described above; ``"fused"`` leaves softmax and products of
            all blocks to ``jax.nn.dot_product_attention``, which on a GPU is cuDNN's fused kernel
            if the inputs are of half precision. ``"auto"`` is fused where that kernel is exact,
            which is without bias and relative keys. That function's softmax is of float32, so wider
            inputs are always taken in blocks.
        block_size: Queries of a block; ``None`` is a default by kind of device. Any number of
            steps is allowed.

    Returns:
        y.

    Raises:
        ValueError: If a shape or an option does not fit.

    Source: Vaswani et al. 2017, arXiv 1706.03762, section 3.2; the backward pass by blocks is that
        of Dao et al. 2022, arXiv 2205.14135, appendix B.
    """
    _check(query, key, value, age, context_length, memory, implementation, block_size)
    positions = Positions() if positions is None else positions
    time = query.shape[2]
    spans = (Span(0, context_length),)
    keys, values = (key,), (value,)
    if memory is not None:
        spans += (Span(context_length, context_length + memory[0].shape[2] + 1 - time),)
        keys, values = (key, memory[0]), (value, memory[1])
    keys, values = jax.tree.map(lambda array: array.astype(query.dtype), (keys, values))
    if time == 1:
        return _one_query(query, keys, values, age, positions, spans)
    query, keys, values, sees_nonfinite = _made_finite(query, keys, values, age, spans)
    if block_size is None:
        block_size = BLOCK_SIZE if on_cpu() else ACCELERATOR_BLOCK_SIZE
    if implementation == "auto":
        exact = positions.bias is None and positions.relative_key is None
        implementation = "fused" if exact and _has_fused_kernel(query) else "blocks"
    wide = jnp.finfo(query.dtype).bits > jnp.finfo(jnp.float32).bits
    run = _in_blocks if implementation == "blocks" or wide else _fused
    outputs = _padded_to_blocks(run, query, keys, values, age, positions, spans, block_size)
    return jnp.where(sees_nonfinite[:, None, :, None], jnp.nan, outputs)


def sliding_window_attention_weights(
    query: Float[Array, "batch heads time head_dim"],
    key: Float[Array, "batch key_heads keys head_dim"],
    age: Int[Array, "batch time"],
    context_length: int,
    positions: Positions | None = None,
    memory_key: Float[Array, "batch key_heads old head_dim"] | None = None,
) -> Float[Array, "batch heads time window"]:
    """Return the weights that ``sliding_window_attention`` gives to each step of the window.

    Args:
        query: As there, like all that follows.
        key: Like ``query``.
        age: How many steps of its episode lie before each query.
        context_length: Steps that a query sees at most, its own among them.
        positions: What distance does to scores.
        memory_key: Keys of steps older than the context.

    Returns:
        Weights that add up to 1 for each query; the last axis counts steps back, from 0 on, and is
        as long as context and memory together.
    """
    positions = Positions() if positions is None else positions
    time = query.shape[2]
    spans, keys = (Span(0, context_length),), (key,)
    if memory_key is not None:
        spans += (Span(context_length, context_length + memory_key.shape[2] + 1 - time),)
        keys = (key, memory_key)

    def weights_of(query, keys, values, age, positions, spans, block_size):
        def of_block(index):
            query_block, key_blocks, age_block = _cut((query, keys, age), index, block_size, spans)
            scores = _scores(query_block, key_blocks, positions, spans)
            visible = _visible(age_block, spans)[:, None]
            weights = jax.nn.softmax(jnp.where(visible, scores, MASKED), where=visible)
            ends = np.cumsum([span.columns(block_size) for span in spans])[:-1]
            parts = jnp.split(weights, ends, axis=-1)
            parts = [_by_distance(part, span.size) for part, span in zip(parts, spans, strict=True)]
            return jnp.concatenate(parts, axis=-1)

        blocks = jax.lax.map(of_block, jnp.arange(query.shape[2] // block_size))
        return jnp.concatenate([*blocks], axis=2)

    query, keys, _, _ = _made_finite(query, keys, keys, age, spans)
    return _padded_to_blocks(weights_of, query, keys, keys, age, positions, spans, BLOCK_SIZE)


def episode_age(
    done: Bool[Array, "batch time"], length: Int[Array, " batch"], limit: int
) -> Int[Array, "batch time"]:
    """Count the steps of its episode that lie before each step, up to ``limit``.

    Args:
        done: True where an input is the first of a new episode.
        length: How many steps of the episode lie before the first.
        limit: The largest count that matters.

    Returns:
        The counts, 0 where an episode begins.
    """
    steps = jnp.arange(done.shape[1], dtype=length.dtype)
    start = _running_maximum(jnp.where(done, steps, -length[:, None]))
    return jnp.minimum(steps - start, limit)


def slide_window(
    window: Shaped[Array, "batch *heads length features"],
    values: Float[Array, "batch *heads time features"],
    age: Int[Array, " batch"],
) -> tuple[Array, Array]:
    """Move a window of the last steps on.

    Args:
        window: What the steps before left, oldest first.
        values: What the steps now bring; taken over in the window's dtype.
        age: How many steps of its episode lie before the last of them.

    Returns:
        All but the oldest of the window, then the values, ``(batch, *heads, length - 1 + time,
        features)``; and the next window, zero where it would reach into an earlier episode.
    """
    length, axis = window.shape[-2], window.ndim - 2
    kept = jax.lax.slice_in_dim(window, 1, length, axis=axis)
    whole = jnp.concatenate([kept, values.astype(window.dtype)], axis=axis)
    last = jax.lax.slice_in_dim(whole, values.shape[axis] - 1, whole.shape[axis], axis=axis)
    in_episode = jnp.arange(length)[::-1] <= age[:, None]
    in_episode = in_episode.reshape(-1, *[1] * (window.ndim - 3), length, 1)
    return whole, jnp.where(in_episode, last, 0)


def _running_maximum(values):
    # The barrier hides that no episode begins: XLA would take seconds to fold constants.
    return jax.lax.cummax(jax.lax.optimization_barrier(values), axis=1)


class Span(NamedTuple):
    """Distances from ``low`` to ``high``, that one not among them."""

    low: int
    high: int

    @property
    def size(self) -> int:
        """How many distances there are."""
        return self.high - self.low

    def columns(self, block_size: int) -> int:
        """How many keys the queries of a block see together."""
        return self.size - 1 + block_size

    def distances(self, block_size: int) -> np.ndarray:
        """Return how far before each query of a block (rows) each of those keys is (columns)."""
        rows, columns = np.arange(block_size)[:, None], np.arange(self.columns(block_size))
        return rows + self.high - 1 - columns


def _check(query, key, value, age, context_length, memory, implementation, block_size):
    name = "sliding_window_attention"
    check_positive(f"{name}: context_length", context_length)
    if block_size is not None:
        check_positive(f"{name}: block_size", block_size)
    choices = get_args(AttentionImplementation)
    if implementation not in choices:
        raise ValueError(f"{name}: {unknown_name('implementation', implementation, choices)}")
    batch, heads, time, head_dim = query.shape
    key_heads = key.shape[1]
    if 0 in query.shape or key_heads == 0 or heads % key_heads:
        raise ValueError(
            f"{name}: query must be (batch, heads, time, head_dim), none of them 0, with heads "
            f"divisible by those of the keys, got {query.shape} and keys of shape {key.shape}"
        )
    expected = (batch, key_heads, context_length - 1 + time, head_dim)
    if key.shape != expected or value.shape != expected:
        raise ValueError(
            f"{name}: key and value must be (batch, key_heads, context_length - 1 + time, "
            f"head_dim) = {expected}, got {key.shape} and {value.shape}"
        )
    if age.shape != (batch, time):
        raise ValueError(f"{name}: age must have shape {(batch, time)}, got {age.shape}")
    if memory is not None:
        shapes = [part.shape for part in memory]
        least = (batch, key_heads, time, head_dim)
        if len(set(shapes)) != 1 or any(
            size != known and (axis != 2 or size < known)
            for axis, (size, known) in enumerate(zip(shapes[0], least, strict=True))
        ):
            raise ValueError(
                f"{name}: memory must be keys and values of shape (batch, key_heads, memory_length "
                f"- 1 + time, head_dim), at least {least}, got {shapes}"
            )


def _has_fused_kernel(query):
    """Tell whether cuDNN has a kernel for such queries; it computes in half precision only."""
    return (
        jax.default_backend() == "gpu"
        and query.dtype in (jnp.float16, jnp.bfloat16)
        and query.shape[-1] % 8 == 0
        and query.shape[-1] <= 128
    )


def _padded_to_blocks(
    run: Callable, query, keys, values, age, positions, spans, block_size
) -> Array:
    """Call ``run`` with whole blocks of equal size, filled up with steps that see themselves."""
    time = query.shape[2]
    num_blocks = -(-time // block_size)
    block_size = -(-time // num_blocks)
    missing = num_blocks * block_size - time

    def padded(array, axis):
        return jnp.pad(array, [(0, missing if axis == a else 0) for a in range(array.ndim)])

    query, keys, values = jax.tree.map(lambda array: padded(array, 2), (query, keys, values))
    outputs = run(query, keys, values, padded(age, 1), positions, spans, block_size)
    return outputs[:, :, :time]


def _made_finite(query, keys, values, age, spans):
    """Zero the steps whose numbers are not finite, and tell which queries see one.

    By the norms of queries and keys, so that no score of two steps overflows either.
    """

    def finite_steps(array, power):
        wide = array.astype(jnp.promote_types(array.dtype, jnp.float32))
        return jnp.isfinite((wide**power).sum((1, 3)))

    def zeroed(array, good):
        return jnp.where(good[:, None, :, None], array, 0)

    good = finite_steps(query, 2)
    query, bad = zeroed(query, good), ~good
    finite_keys, finite_values = [], []
    for key, value, span in zip(keys, values, spans, strict=True):
        good = finite_steps(key, 2) & jnp.isfinite(value).all((1, 3))
        finite_keys.append(zeroed(key, good))
        finite_values.append(zeroed(value, good))
        # The last bad step no nearer than the span's least distance.
        columns = jnp.arange(good.shape[1], dtype=age.dtype)
        last = _running_maximum(jnp.where(good, -1, columns))[:, span.size - 1 :]
        steps = columns[: age.shape[1]]
        bad |= (last >= steps) & (steps + span.high - 1 - last <= age)
    return query, tuple(finite_keys), tuple(finite_values), bad


def _visible(age, spans):
    """Return which keys of a block its queries see, the spans side by side."""
    parts = []
    for span in spans:
        distances = span.distances(age.shape[1])
        in_span = (distances >= span.low) & (distances < span.high)
        parts.append(in_span & (distances <= age[..., None]))
    return jnp.concatenate(parts, axis=-1)


def _scores(query, keys, positions, spans):
    """Return the scores of a block's queries and keys, ``(batch, heads, rows, columns)``.

    Those that no query sees are finite, whatever they are.
    """
    batch, heads, rows, head_dim = query.shape
    wide = jnp.promote_types(query.dtype, jnp.float32)
    query = query * head_dim**-0.5
    content = query
    if positions.content_bias is not None:
        content += (positions.content_bias * head_dim**-0.5).astype(query.dtype)[:, None]
    content = _rotate(content, np.arange(rows), positions)
    by_distance = None
    if positions.relative_key is not None:
        relative_key = positions.relative_key.astype(query.dtype)
        by_distance = jnp.einsum("bhqd,whd->bhqw", query, relative_key, preferred_element_type=wide)
    if positions.bias is not None:
        bias = positions.bias.astype(wide)[None, :, None]
        shape = (1, heads, rows, bias.shape[-1])
        by_distance = jnp.broadcast_to(bias, shape) if by_distance is None else by_distance + bias
    parts = []
    for key, span in zip(keys, spans, strict=True):
        key_heads, columns = key.shape[1:3]
        key = _rotate(key, np.arange(columns) - (span.high - 1), positions)  # noqa: PLW2901
        grouped = content.reshape(batch, key_heads, heads // key_heads, rows, head_dim)
        scores = jnp.einsum("bgrqd,bgkd->bgrqk", grouped, key, preferred_element_type=wide)
        scores = scores.reshape(batch, heads, rows, columns)
        if by_distance is not None:
            scores += _by_column(by_distance[..., span.low : span.high])
        parts.append(scores)
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-1)


def _rotate(values, steps, positions):
    """Rotate each pair of features by its frequency times the step, an integer each row."""
    pairs = len(positions.frequencies)
    if not pairs:
        return values
    # In float64, at once: steps and frequencies are known before anything is compiled.
    angles = steps[:, None] * np.asarray(positions.frequencies)
    wide = jnp.promote_types(values.dtype, jnp.float32)
    cos, sin = jnp.asarray(np.cos(angles), wide), jnp.asarray(np.sin(angles), wide)
    rotated, rest = values[..., : 2 * pairs].astype(wide), values[..., 2 * pairs :]
    if positions.interleaved:
        first, second = rotated[..., ::2], rotated[..., 1::2]
    else:
        first, second = rotated[..., :pairs], rotated[..., pairs:]
    turned = first * cos - second * sin, first * sin + second * cos
    if positions.interleaved:
        whole = jnp.stack(turned, axis=-1).reshape(rotated.shape)
    else:
        whole = jnp.concatenate(turned, axis=-1)
    return jnp.concatenate([whole.astype(values.dtype), rest], axis=-1)


def _by_column(by_distance):
    """Bring ``(..., rows, distances)`` to ``(..., rows, columns)``, the columns of a ``Span``.

    Reversed and one column later a row: as one long line, a row that is one number longer.
    """
    *lead, rows, size = by_distance.shape
    line = jnp.flip(by_distance, -1)
    line = jnp.pad(line, [(0, 0)] * (len(lead) + 1) + [(0, rows)])
    columns = size - 1 + rows
    return line.reshape(*lead, -1)[..., : rows * columns].reshape(*lead, rows, columns)


def _by_distance(by_column, size):
    """Undo ``_by_column``."""
    *lead, rows, columns = by_column.shape
    line = by_column.reshape(*lead, -1)
    line = jnp.pad(line, [(0, 0)] * len(lead) + [(0, rows)])
    return jnp.flip(line.reshape(*lead, rows, columns + 1)[..., :size], -1)


def _one_query(query, keys, values, age, positions, spans):
    """Attend with a single query, whose window is all there is.

    What it does not see is of earlier episodes and can be zeroed as it is.
    """
    visible = _visible(age, spans)[:, None]
    ends = np.cumsum([span.columns(1) for span in spans])[:-1]
    seen = [jnp.swapaxes(part, -1, -2) for part in jnp.split(visible, ends, axis=-1)]
    keys, values = (
        tuple(jnp.where(part, array, 0) for part, array in zip(seen, arrays, strict=True))
        for arrays in (keys, values)
    )
    scores = jnp.where(visible, _scores(query, keys, positions, spans), MASKED)
    weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(-1, keepdims=True)))
    outputs = _weighted(weights, _joined(values)) / weights.sum(-1, keepdims=True)
    return outputs.astype(query.dtype)


def _joined(values):
    return values[0] if len(values) == 1 else jnp.concatenate(values, axis=2)


def _grouped(array, key_heads):
    """Bring ``(batch, heads, ...)`` to ``(batch, key_heads, heads of one key, ...)``."""
    return array.reshape(array.shape[0], key_heads, -1, *array.shape[2:])


def _weighted(weights, values):
    """Add up values by weight; ``(batch, heads, rows, head_dim)``."""
    grouped = _grouped(weights, values.shape[1]).astype(values.dtype)
    outputs = jnp.einsum("bgrqk,bgkd->bgrqd", grouped, values, preferred_element_type=weights.dtype)
    return outputs.reshape(*weights.shape[:3], -1)


def _cut(arrays, index, block_size, spans):
    """Cut out what a block's queries see: (query, keys, ..., age), where keys are by span."""
    query, *by_span, age = arrays
    start = index * block_size

    def slice_in(array, size, axis):
        return jax.lax.dynamic_slice_in_dim(array, start, size, axis)

    cut = [
        tuple(
            slice_in(array, span.columns(block_size), 2)
            for array, span in zip(part, spans, strict=True)
        )
        for part in by_span
    ]
    return slice_in(query, block_size, 2), *cut, slice_in(age, block_size, 1)


def _put(whole, part, index, block_size, axis=2):
    return jax.lax.dynamic_update_slice_in_dim(whole, part, index * block_size, axis)


def _add(whole, part, index, block_size):
    there = jax.lax.dynamic_slice_in_dim(whole, index * block_size, part.shape[2], 2)
    return _put(whole, there + part, index, block_size)


@partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def _in_blocks(query, keys, values, age, positions, spans, block_size):
    return _in_blocks_forward(query, keys, values, age, positions, spans, block_size)[0]


def _in_blocks_forward(query, keys, values, age, positions, spans, block_size):
    """Attend block by block; keep the logarithm of each softmax's denominator."""
    wide = jnp.promote_types(query.dtype, jnp.float32)

    def attend(done, index):
        outputs, log_sums = done
        query_block, key_blocks, value_blocks, age_block = _cut(
            (query, keys, values, age), index, block_size, spans
        )
        scores = _scores(query_block, key_blocks, positions, spans)
        scores = jnp.where(_visible(age_block, spans)[:, None], scores, MASKED)
        highest = scores.max(-1, keepdims=True)
        weights = jnp.exp(scores - highest)
        total = weights.sum(-1, keepdims=True)
        output = _weighted(weights, _joined(value_blocks)) / total
        log_sum = (highest + jnp.log(total))[..., 0]
        outputs = _put(outputs, output, index, block_size)
        return (outputs, _put(log_sums, log_sum, index, block_size)), None

    # Wider than half precision: a scan on CPU would convert all of a half-precision array a step.
    empty = jnp.zeros(query.shape, wide), jnp.zeros(query.shape[:3], wide)
    (outputs, log_sums), _ = jax.lax.scan(attend, empty, _indices(query, block_size))
    kept = (query, keys, values, age, positions, outputs, log_sums)
    return outputs.astype(query.dtype), kept


def _in_blocks_backward(spans, block_size, kept, cotangent):
    """Form each block's weights again, and add up what they say about all they were formed of."""
    query, keys, values, age, positions, outputs, log_sums = kept
    wide = outputs.dtype
    cotangent = cotangent.astype(wide)
    # What the softmax's derivative takes from every weight of a query.
    shared = (cotangent * outputs).sum(-1)
    ends = np.cumsum([span.columns(block_size) for span in spans])[:-1]

    def attend(slopes, index):
        to_query, to_keys, to_values, to_positions = slopes
        query_block, key_blocks, value_blocks, age_block = _cut(
            (query, keys, values, age), index, block_size, spans
        )
        slope, log_sum, taken = (
            jax.lax.dynamic_slice_in_dim(array, index * block_size, block_size, 2)
            for array in (cotangent, log_sums, shared)
        )
        scores, pull_back = jax.vjp(
            lambda query, keys, positions: _scores(query, keys, positions, spans),
            query_block,
            key_blocks,
            positions,
        )
        visible = _visible(age_block, spans)[:, None]
        weights = jnp.where(visible, jnp.exp(scores - log_sum[..., None]), 0)
        joined = _joined(value_blocks).astype(wide)
        grouped = _grouped(slope, joined.shape[1])
        to_joined = jnp.einsum("bgrqk,bgrqd->bgkd", _grouped(weights, joined.shape[1]), grouped)
        to_weights = jnp.einsum("bgrqd,bgkd->bgrqk", grouped, joined).reshape(weights.shape)
        to_scores = weights * (to_weights - taken[..., None])
        query_slope, key_slopes, position_slope = pull_back(to_scores)
        put = partial(_add, index=index, block_size=block_size)
        return (
            _put(to_query, query_slope.astype(wide), index, block_size),
            tuple(map(put, to_keys, key_slopes)),
            tuple(map(put, to_values, jnp.split(to_joined, ends, axis=2))),
            jax.tree.map(jnp.add, to_positions, position_slope),
        ), None

    zeros = jax.tree.map(lambda array: jnp.zeros(array.shape, wide), (query, keys, values))
    start = *zeros, jax.tree.map(jnp.zeros_like, positions)
    slopes, _ = jax.lax.scan(attend, start, _indices(query, block_size))
    to_query, to_keys, to_values, to_positions = jax.tree.map(
        lambda slope, array: slope.astype(array.dtype), slopes, (query, keys, values, positions)
    )
    return to_query, to_keys, to_values, np.zeros(age.shape, jax.dtypes.float0), to_positions


_in_blocks.defvjp(_in_blocks_forward, _in_blocks_backward)


def _indices(query, block_size):
    return jnp.arange(query.shape[2] // block_size)


def _fused(query, keys, values, age, positions, spans, block_size):
    """Attend with all blocks at once, as rows of a larger batch."""
    cut = jax.vmap(
        lambda index: _cut((query, keys, values, age), index, block_size, spans), out_axes=1
    )
    rows = jax.tree.map(
        lambda array: array.reshape(-1, *array.shape[2:]), cut(_indices(query, block_size))
    )
    query_rows, key_rows, value_rows, age_rows = rows
    rotated = [
        _rotate(key, np.arange(key.shape[2]) - (span.high - 1), positions)
        for key, span in zip(key_rows, spans, strict=True)
    ]
    content = query_rows
    if positions.content_bias is not None:
        content += positions.content_bias.astype(query.dtype)[:, None]
    content = _rotate(content, np.arange(block_size), positions)
    bias = None
    if positions.bias is not None or positions.relative_key is not None:
        # The scores of keys of zeros are what distance alone adds.
        no_keys = jax.tree.map(jnp.zeros_like, key_rows)
        bias = _scores(query_rows, no_keys, positions, spans).astype(query.dtype)
    outputs = jax.nn.dot_product_attention(
        *(jnp.swapaxes(array, 1, 2) for array in (content, _joined(rotated), _joined(value_rows))),
        bias=bias,
        mask=_visible(age_rows, spans)[:, None],
        implementation="cudnn" if _has_fused_kernel(query) else "xla",
    )
    outputs = outputs.reshape(query.shape[0], -1, *outputs.shape[2:])
    return jnp.swapaxes(outputs, 1, 2)
