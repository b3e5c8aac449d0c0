"""The attention of ``attention.py`` block by block of queries.

Scores of time x time are never formed. Each block meets only the keys that one of its queries can
see, so that time and memory grow linearly with the number of queries. The backward pass, written by
hand, forms a block's scores again from what the forward pass kept: one number for each query and
head.

Masked scores may come from another episode. Their inputs are zeroed where they are not finite
before any product (0 x NaN is NaN), and a query that does see a non-finite input gets NaN at the
end, as it would from a plain softmax.

Blocks support reverse mode of first order, not forward mode (``jax.jvp``).

Source: Dao et al. 2022, arXiv 2205.14135, appendix B.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from memorax.ops.positions import Positions, rotate, scores_of
from memorax.ops.windows import Span, running_maximum, visible_keys

MASKED = -1e30
"""A score without weight in a softmax, finite so that differences are."""


def run_on_blocks(
    run: Callable,
    query: Any,
    keys: tuple[Any, ...],
    values: tuple[Any, ...],
    age: Any,
    positions: Positions,
    spans: tuple[Span, ...],
    block_size: int,
) -> Any:
    """Call ``run`` with time padded to blocks of equal size; padded steps see themselves."""
    time = query.shape[2]
    num_blocks = -(-time // block_size)
    block_size = -(-time // num_blocks)
    missing = num_blocks * block_size - time

    def padded(array, axis):
        return jnp.pad(array, [(0, missing if axis == a else 0) for a in range(array.ndim)])

    query, keys, values = jax.tree.map(lambda array: padded(array, 2), (query, keys, values))
    outputs = run(query, keys, values, padded(age, 1), positions, spans, block_size)
    return outputs[:, :, :time]


def zero_nonfinite(
    query: Any, keys: tuple[Any, ...], values: tuple[Any, ...], age: Any, spans: tuple[Span, ...]
) -> tuple[Any, tuple[Any, ...], tuple[Any, ...], Any]:
    """Zero steps with non-finite numbers, and return which queries see such a step.

    Queries and keys are judged by their norms, so that no score of two steps overflows either.
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
        # The last bad step at the span's least distance or further.
        columns = jnp.arange(good.shape[1], dtype=age.dtype)
        last = running_maximum(jnp.where(good, -1, columns))[:, span.size - 1 :]
        steps = columns[: age.shape[1]]
        bad |= (last >= steps) & (steps + span.high - 1 - last <= age)
    return query, tuple(finite_keys), tuple(finite_values), bad


def cut(arrays: Any, index: Any, block_size: int, spans: tuple[Span, ...]) -> Any:
    """Slice (query, keys, ..., age) to a block and what its queries see; keys are by span."""
    query, *by_span, age = arrays
    start = index * block_size

    def slice_in(array, size, axis):
        return jax.lax.dynamic_slice_in_dim(array, start, size, axis)

    sliced = [
        tuple(
            slice_in(array, span.columns(block_size), 2)
            for array, span in zip(part, spans, strict=True)
        )
        for part in by_span
    ]
    return slice_in(query, block_size, 2), *sliced, slice_in(age, block_size, 1)


def join(values: tuple[Any, ...]) -> Any:
    """Concatenate the spans."""
    return values[0] if len(values) == 1 else jnp.concatenate(values, axis=2)


def weighted_sum(weights: Any, values: Any) -> Any:
    """Return weights times values, ``(batch, heads, rows, head_dim)``."""
    grouped = _grouped(weights, values.shape[1]).astype(values.dtype)
    outputs = jnp.einsum("bgrqk,bgkd->bgrqd", grouped, values, preferred_element_type=weights.dtype)
    return outputs.reshape(*weights.shape[:3], -1)


def _grouped(array, key_heads):
    """Bring ``(batch, heads, ...)`` to ``(batch, key_heads, heads of one key, ...)``."""
    return array.reshape(array.shape[0], key_heads, -1, *array.shape[2:])


def _indices(query, block_size):
    return jnp.arange(query.shape[2] // block_size)


def _put(whole, part, index, block_size, axis=2):
    return jax.lax.dynamic_update_slice_in_dim(whole, part, index * block_size, axis)


def _add(whole, part, index, block_size):
    there = jax.lax.dynamic_slice_in_dim(whole, index * block_size, part.shape[2], 2)
    return _put(whole, there + part, index, block_size)


@partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def attend_in_blocks(query, keys, values, age, positions, spans, block_size):
    """Attend block by block."""
    return _in_blocks_forward(query, keys, values, age, positions, spans, block_size)[0]


def _in_blocks_forward(query, keys, values, age, positions, spans, block_size):
    """Attend block by block and keep the logarithm of each softmax's denominator."""
    wide = jnp.promote_types(query.dtype, jnp.float32)

    def attend(done, index):
        outputs, log_sums = done
        query_block, key_blocks, value_blocks, age_block = cut(
            (query, keys, values, age), index, block_size, spans
        )
        scores = scores_of(query_block, key_blocks, positions, spans)
        scores = jnp.where(visible_keys(age_block, spans)[:, None], scores, MASKED)
        highest = scores.max(-1, keepdims=True)
        weights = jnp.exp(scores - highest)
        total = weights.sum(-1, keepdims=True)
        output = weighted_sum(weights, join(value_blocks)) / total
        log_sum = (highest + jnp.log(total))[..., 0]
        outputs = _put(outputs, output, index, block_size)
        return (outputs, _put(log_sums, log_sum, index, block_size)), None

    # At least float32: at each step, a scan on CPU would convert all of a half-precision array.
    empty = jnp.zeros(query.shape, wide), jnp.zeros(query.shape[:3], wide)
    (outputs, log_sums), _ = jax.lax.scan(attend, empty, _indices(query, block_size))
    kept = (query, keys, values, age, positions, outputs, log_sums)
    return outputs.astype(query.dtype), kept


def _in_blocks_backward(spans, block_size, kept, cotangent):
    """Form each block's weights again and add up its gradients."""
    query, keys, values, age, positions, outputs, log_sums = kept
    wide = outputs.dtype
    cotangent = cotangent.astype(wide)
    # The softmax's derivative subtracts this from every weight of a query.
    shared = (cotangent * outputs).sum(-1)
    ends = np.cumsum([span.columns(block_size) for span in spans])[:-1]

    def attend(slopes, index):
        to_query, to_keys, to_values, to_positions = slopes
        query_block, key_blocks, value_blocks, age_block = cut(
            (query, keys, values, age), index, block_size, spans
        )
        slope, log_sum, taken = (
            jax.lax.dynamic_slice_in_dim(array, index * block_size, block_size, 2)
            for array in (cotangent, log_sums, shared)
        )
        scores, pull_back = jax.vjp(
            lambda query, keys, positions: scores_of(query, keys, positions, spans),
            query_block,
            key_blocks,
            positions,
        )
        visible = visible_keys(age_block, spans)[:, None]
        weights = jnp.where(visible, jnp.exp(scores - log_sum[..., None]), 0)
        joined = join(value_blocks).astype(wide)
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


attend_in_blocks.defvjp(_in_blocks_forward, _in_blocks_backward)


def has_fused_kernel(query: Any) -> bool:
    """Return whether cuDNN has a kernel for such queries; it computes in half precision only."""
    return (
        jax.default_backend() == "gpu"
        and query.dtype in (jnp.float16, jnp.bfloat16)
        and query.shape[-1] % 8 == 0
        and query.shape[-1] <= 128
    )


def attend_fused(
    query: Any,
    keys: tuple[Any, ...],
    values: tuple[Any, ...],
    age: Any,
    positions: Positions,
    spans: tuple[Span, ...],
    block_size: int,
) -> Any:
    """Attend from all blocks in parallel, as rows of a larger batch."""
    cut_all = jax.vmap(
        lambda index: cut((query, keys, values, age), index, block_size, spans), out_axes=1
    )
    rows = jax.tree.map(
        lambda array: array.reshape(-1, *array.shape[2:]), cut_all(_indices(query, block_size))
    )
    query_rows, key_rows, value_rows, age_rows = rows
    rotated = tuple(
        rotate(key, np.arange(key.shape[2]) - (span.high - 1), positions)
        for key, span in zip(key_rows, spans, strict=True)
    )
    content = query_rows
    if positions.content_bias is not None:
        content += positions.content_bias.astype(query.dtype)[:, None]
    content = rotate(content, np.arange(block_size), positions)
    bias = None
    if positions.bias is not None or positions.relative_key is not None:
        # With keys of zeros, scores are what positions alone add.
        no_keys = jax.tree.map(jnp.zeros_like, key_rows)
        bias = scores_of(query_rows, no_keys, positions, spans).astype(query.dtype)
    outputs = jax.nn.dot_product_attention(
        *(jnp.swapaxes(array, 1, 2) for array in (content, join(rotated), join(value_rows))),
        bias=bias,
        mask=visible_keys(age_rows, spans)[:, None],
        implementation="cudnn" if has_fused_kernel(query) else "xla",
    )
    outputs = outputs.reshape(query.shape[0], -1, *outputs.shape[2:])
    return jnp.swapaxes(outputs, 1, 2)
