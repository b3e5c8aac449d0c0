"""Scores of queries and keys, and how they depend on the distance between the two."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from memorax.ops.windows import Span


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["bias", "relative_key", "content_bias"],
    meta_fields=["frequencies", "interleaved"],
)
@dataclasses.dataclass(frozen=True)
class Positions:
    """How the score of a query q and the key k of n steps before depends on n.

    With R(n) the rotation of each pair of features by n times the pair's frequency::

        score = [(q + content_bias) . R(-n) k + q . relative_key[n]] / sqrt(head_dim) + bias[n]

    Terms that are not given are left out.

    Attributes:
        bias: ``(heads, window)``.
        relative_key: ``(window, heads, head_dim)``.
        content_bias: ``(heads, head_dim)``.
        frequencies: Radians per step, one for each pair of features, starting with the first pair.
        interleaved: Whether features 2i and 2i + 1 form a pair, instead of i and i + pairs.
    """

    bias: Any = None
    relative_key: Any = None
    content_bias: Any = None
    frequencies: tuple[float, ...] = ()
    interleaved: bool = False


def scores_of(
    query: Any, keys: tuple[Any, ...], positions: Positions, spans: tuple[Span, ...]
) -> Any:
    """Return the scores of a block's queries and keys, ``(batch, heads, rows, columns)``.

    Scores of keys that a query does not see are finite but meaningless; mask them.
    """
    batch, heads, rows, head_dim = query.shape
    wide = jnp.promote_types(query.dtype, jnp.float32)
    query = query * head_dim**-0.5
    content = query
    if positions.content_bias is not None:
        content += (positions.content_bias * head_dim**-0.5).astype(query.dtype)[:, None]
    content = rotate(content, np.arange(rows), positions)
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
        key = rotate(key, np.arange(columns) - (span.high - 1), positions)  # noqa: PLW2901
        grouped = content.reshape(batch, key_heads, heads // key_heads, rows, head_dim)
        scores = jnp.einsum("bgrqd,bgkd->bgrqk", grouped, key, preferred_element_type=wide)
        scores = scores.reshape(batch, heads, rows, columns)
        if by_distance is not None:
            scores += distances_to_columns(by_distance[..., span.low : span.high])
        parts.append(scores)
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-1)


def rotate(values: Any, steps: np.ndarray, positions: Positions) -> Any:
    """Rotate each pair of features by its frequency times the step, one integer for each row."""
    pairs = len(positions.frequencies)
    if not pairs:
        return values
    # In float64: steps and frequencies are known at compile time.
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


def distances_to_columns(by_distance: Any) -> Any:
    """Bring ``(..., rows, distances)`` to ``(..., rows, columns)``, the columns of a ``Span``.

    Each row is reversed and shifted one column further than the row above it. Flattened, that is
    padding each row to columns + 1 numbers and reading the result with columns numbers a row.
    """
    *lead, rows, size = by_distance.shape
    line = jnp.flip(by_distance, -1)
    line = jnp.pad(line, [(0, 0)] * (len(lead) + 1) + [(0, rows)])
    columns = size - 1 + rows
    return line.reshape(*lead, -1)[..., : rows * columns].reshape(*lead, rows, columns)


def columns_to_distances(by_column: Any, size: int) -> Any:
    """Invert ``distances_to_columns``."""
    *lead, rows, columns = by_column.shape
    line = by_column.reshape(*lead, -1)
    line = jnp.pad(line, [(0, 0)] * len(lead) + [(0, rows)])
    return jnp.flip(line.reshape(*lead, rows, columns + 1)[..., :size], -1)
