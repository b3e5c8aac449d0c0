"""Attention of each step to a window of steps before it, never across an episode's start.

This file is the definition: ``_attend`` is softmax(scores) values for one query and its window.
``_blocked_attention.py`` is the fast form for many queries, which forms no scores of time x time;
``positions.py`` has the scores, ``windows.py`` what each query sees.
"""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from memorax.ops._blocked_attention import (
    MASKED,
    attend_fused,
    attend_in_blocks,
    cut,
    has_fused_kernel,
    join,
    run_on_blocks,
    weighted_sum,
    zero_nonfinite,
)
from memorax.ops.implementation import on_cpu
from memorax.ops.positions import Positions, columns_to_distances, scores_of
from memorax.ops.windows import Span, visible_keys
from memorax.validation import check_positive, unknown_name

BLOCK_SIZE, ACCELERATOR_BLOCK_SIZE = 64, 256
"""Queries of a block: larger blocks see keys that few of their queries need, smaller ones make
small products. Measured on a CPU at windows of 128; an accelerator launches kernels for each block,
so its blocks are larger."""

AttentionImplementation = Literal["auto", "blocks", "fused"]


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
    """Attend from each query to itself and up to ``context_length - 1`` steps before it.

    Over the distances n of the window up to the query's age::

        y[t] = sum of softmax(score of query[t] and key[t - n])[n] value[t - n]

    Args:
        query: One for each step. Neighbouring heads may share a key: ``key_heads`` divides
            ``heads``.
        key: Of the ``context_length - 1`` steps before the first query, then of the queries' own
            steps, so that ``keys = context_length - 1 + time``.
        value: Like ``key``.
        age: Number of earlier steps in each query's episode, as returned by ``episode_age``. Older
            keys are ignored.
        context_length: Number of steps that a query sees at most, including its own.
        positions: How scores depend on distance; ``None``: they do not.
        memory: Keys and values of steps older than the context, ``memory_length - 1 + time`` of
            each: of the ``memory_length`` steps before those that the first query sees in its
            context, then of one more step for each further query. ``None``: none.
        implementation: ``"blocks"`` attends block by block of queries, without scores of time x
            time; it supports reverse mode of first order, not forward mode (``jax.jvp``).
            ``"fused"`` leaves softmax and products of all blocks to
            ``jax.nn.dot_product_attention``, which on a GPU is cuDNN's fused kernel for inputs of
            half precision. ``"auto"`` is fused where that kernel is exact, which is without bias
            and relative keys. Its softmax is float32, so wider inputs always run in blocks.
        block_size: Queries of a block; ``None`` is a default by kind of device. It need not divide
            the number of steps.

    Returns:
        y.

    Raises:
        ValueError: If a shape or an option does not fit.

    Source: Vaswani et al. 2017, arXiv 1706.03762, section 3.2.
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
        return _attend(query, keys, values, age, positions, spans)
    query, keys, values, sees_nonfinite = zero_nonfinite(query, keys, values, age, spans)
    if block_size is None:
        block_size = BLOCK_SIZE if on_cpu() else ACCELERATOR_BLOCK_SIZE
    if implementation == "auto":
        exact = positions.bias is None and positions.relative_key is None
        implementation = "fused" if exact and has_fused_kernel(query) else "blocks"
    wide = jnp.finfo(query.dtype).bits > jnp.finfo(jnp.float32).bits
    run = attend_in_blocks if implementation == "blocks" or wide else attend_fused
    outputs = run_on_blocks(run, query, keys, values, age, positions, spans, block_size)
    return jnp.where(sees_nonfinite[:, None, :, None], jnp.nan, outputs)


def sliding_window_attention_weights(
    query: Float[Array, "batch heads time head_dim"],
    key: Float[Array, "batch key_heads keys head_dim"],
    age: Int[Array, "batch time"],
    context_length: int,
    positions: Positions | None = None,
    memory_key: Float[Array, "batch key_heads old head_dim"] | None = None,
) -> Float[Array, "batch heads time window"]:
    """Return the weight that ``sliding_window_attention`` gives to each step of the window.

    Args:
        query: As in ``sliding_window_attention``, like the other arguments.
        key: One for each step that a query may see.
        age: Number of earlier steps in each query's episode.
        context_length: Number of steps that a query sees at most, including its own.
        positions: How scores depend on distance.
        memory_key: Keys of steps older than the context.

    Returns:
        Weights that sum to 1 for each query. The last axis is the distance, from 0 to the length of
        context and memory together.
    """
    positions = Positions() if positions is None else positions
    time = query.shape[2]
    spans, keys = (Span(0, context_length),), (key,)
    if memory_key is not None:
        spans += (Span(context_length, context_length + memory_key.shape[2] + 1 - time),)
        keys = (key, memory_key)

    def weights_of(query, keys, values, age, positions, spans, block_size):
        def of_block(index):
            query_block, key_blocks, age_block = cut((query, keys, age), index, block_size, spans)
            scores = scores_of(query_block, key_blocks, positions, spans)
            visible = visible_keys(age_block, spans)[:, None]
            weights = jax.nn.softmax(jnp.where(visible, scores, MASKED), where=visible)
            ends = np.cumsum([span.columns(block_size) for span in spans])[:-1]
            parts = jnp.split(weights, ends, axis=-1)
            parts = [
                columns_to_distances(part, span.size)
                for part, span in zip(parts, spans, strict=True)
            ]
            return jnp.concatenate(parts, axis=-1)

        blocks = jax.lax.map(of_block, jnp.arange(query.shape[2] // block_size))
        return jnp.concatenate([*blocks], axis=2)

    query, keys, _, _ = zero_nonfinite(query, keys, keys, age, spans)
    return run_on_blocks(weights_of, query, keys, keys, age, positions, spans, BLOCK_SIZE)


def _attend(query, keys, values, age, positions, spans):
    """Attend from a single query to its window: the attention as it is defined.

    Keys of earlier episodes are zeroed, so that their NaNs do not enter the products.
    """
    visible = visible_keys(age, spans)[:, None]
    ends = np.cumsum([span.columns(1) for span in spans])[:-1]
    seen = [jnp.swapaxes(part, -1, -2) for part in jnp.split(visible, ends, axis=-1)]
    keys, values = (
        tuple(jnp.where(part, array, 0) for part, array in zip(seen, arrays, strict=True))
        for arrays in (keys, values)
    )
    scores = jnp.where(visible, scores_of(query, keys, positions, spans), MASKED)
    weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(-1, keepdims=True)))
    outputs = weighted_sum(weights, join(values)) / weights.sum(-1, keepdims=True)
    return outputs.astype(query.dtype)


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
