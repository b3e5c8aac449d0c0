"""Matrix memories that erase before they write, or decay by key channel.

The three recurrences here have one form: each head's state decays, is read with one key, and adds
outer products of keys with a value plus a multiple of what was read::

    S~ = exp(log_decay) S           (S is zero at an episode's first step; a decay runs along keys)
    e  = S~^T erase_key
    S' = S~ + sum over writes of key (value + scale e)^T
    y  = S'^T query

``"sequential"`` is that definition, step by step. Its backward pass is written by hand: it keeps
the states between chunks only, computes those inside a chunk again, and goes back step by step.
``"chunked"`` is in ``_chunked_delta_rule.py``.

The functions support reverse mode of first order, not forward mode (``jax.jvp``).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from memorax.ops._chunked_delta_rule import run_in_chunks
from memorax.ops._heads import check_shape, check_shapes, per_head
from memorax.ops.implementation import Implementation, check_implementation, on_cpu
from memorax.validation import check_positive

CHUNK_SIZE = 16
"""Steps of a chunk: the work inside one grows with its square, the states kept with its number."""

IMPLEMENTATIONS = ("auto", "sequential", "chunked")
"""An associative scan would multiply a matrix of key_dim x key_dim for every pair of steps."""


class Write(NamedTuple):
    """A term added to the state at each step: key (value + scale e)^T.

    Attributes:
        key: ``(batch, time, heads, key_dim)``.
        value: ``(batch, time, heads, value_dim)``; ``None``: zero.
        scale: ``(batch, time, heads)``; ``None``: zero.
    """

    key: Any
    value: Any = None
    scale: Any = None


class Inputs(NamedTuple):
    """The inputs of each step, ``(batch, time, heads, ...)``; ``done`` without heads.

    Attributes:
        query: Reads the new state.
        writes: Terms added to the state.
        erase_key: Reads the decayed state; ``None``: no write has a scale.
        log_decay: One number a head, or one a key channel; ``None``: nothing decays.
        done: True where an input is the first of a new episode.
    """

    query: Any
    writes: tuple[Write, ...]
    erase_key: Any
    log_decay: Any
    done: Any


def delta_rule(
    query: Float[Array, "batch time groups key_dim"],
    key: Float[Array, "batch time groups key_dim"],
    value: Float[Array, "batch time heads value_dim"],
    beta: Float[Array, "batch time heads"],
    log_decay: Float[Array, "batch time heads"] | Float[Array, "batch time heads key_dim"] | None,
    done: Bool[Array, "batch time"],
    initial_state: Float[Array, "batch heads key_dim value_dim"],
    implementation: Implementation = "auto",
    chunk_size: int | None = None,
) -> tuple[
    Float[Array, "batch heads key_dim value_dim"], Float[Array, "batch time heads value_dim"]
]:
    """Move the value stored under each key towards a new one, and read the memory.

    With S the state before the step (zero where ``done``), and for each head::

        S~ = exp(log_decay) S
        S' = S~ + key (beta (value - S~^T key))^T
        y  = S'^T query

    A key of length 1 with beta of 1 replaces what was stored under it; with beta from 0 to 2 and
    keys no longer than 1 the state never grows by itself.

    Args:
        query: Read by all heads of a group; ``groups`` divides ``heads``, and each group serves
            neighbouring heads.
        key: Written by all heads of a group, and used as it is, without normalisation.
        value: The value to write.
        beta: Fraction of the difference that is written.
        log_decay: At most 0 and finite, one number a head or one a key channel; ``None``: no decay.
        done: True where an input is the first of a new episode.
        initial_state: S before the first step. Its dtype is that of the computation.
        implementation: ``"sequential"`` scans over steps; ``"chunked"`` solves a triangular system
            in each chunk and scans over chunks. ``"auto"`` is sequential on a CPU, where that
            measured fastest, and for a single step, else chunked.
        chunk_size: Steps of a chunk, in both; ``None`` is 16. Any number of steps is allowed.

    Returns:
        The last state, and y.

    Raises:
        ValueError: If a shape or an option does not fit.

    Source: Schlag et al. 2021, arXiv 2102.11174, equation 24 (the rule); Yang et al. 2024, arXiv
        2406.06484, section 3 (chunks) and 2412.06464 (a decay a head); Kimi Team 2025, arXiv
        2510.26692 (a decay a channel).
    """
    name, dtype = "delta_rule", initial_state.dtype
    query, key, value, beta = (part.astype(dtype) for part in (query, key, value, beta))
    _check(name, query, key, value, log_decay, done, initial_state, implementation, chunk_size)
    check_shape(name, "beta", beta, value.shape[:3])
    query, key = (per_head(part, value.shape[2]) for part in (query, key))
    writes = (Write(key, beta[..., None] * value, -beta),)
    inputs = Inputs(query, writes, key, _cast(log_decay, dtype), done)
    return _run(inputs, initial_state, implementation, chunk_size)


def gated_linear_attention(
    query: Float[Array, "batch time groups key_dim"],
    key: Float[Array, "batch time groups key_dim"],
    value: Float[Array, "batch time heads value_dim"],
    log_decay: Float[Array, "batch time heads"] | Float[Array, "batch time heads key_dim"] | None,
    done: Bool[Array, "batch time"],
    initial_state: Float[Array, "batch heads key_dim value_dim"],
    implementation: Implementation = "auto",
    chunk_size: int | None = None,
) -> tuple[
    Float[Array, "batch heads key_dim value_dim"], Float[Array, "batch time heads value_dim"]
]:
    """Add up outer products with a decay for each key channel, and read the sum.

    With S the state before the step (zero where ``done``), and for each head::

        S' = exp(log_decay) S + key value^T
        y  = S'^T query

    With one decay a head, ``gated_outer_product`` computes the same.

    Args:
        query: Read by all heads of a group; ``groups`` divides ``heads``.
        key: Written by all heads of a group.
        value: The value to write.
        log_decay: At most 0 and finite, one number a head or one a key channel; ``None``: no decay.
        done: True where an input is the first of a new episode.
        initial_state: S before the first step. Its dtype is that of the computation.
        implementation: As in ``delta_rule``.
        chunk_size: As in ``delta_rule``.

    Returns:
        The last state, and y.

    Raises:
        ValueError: If a shape or an option does not fit.

    Source: Yang et al. 2023, arXiv 2312.06635, sections 3 and 4.
    """
    name, dtype = "gated_linear_attention", initial_state.dtype
    query, key, value = (part.astype(dtype) for part in (query, key, value))
    _check(name, query, key, value, log_decay, done, initial_state, implementation, chunk_size)
    query, key = (per_head(part, value.shape[2]) for part in (query, key))
    inputs = Inputs(query, (Write(key, value),), None, _cast(log_decay, dtype), done)
    return _run(inputs, initial_state, implementation, chunk_size)


def generalized_delta_rule(
    query: Float[Array, "batch time heads key_dim"],
    key: Float[Array, "batch time heads key_dim"],
    value: Float[Array, "batch time heads value_dim"],
    erase_key: Float[Array, "batch time heads key_dim"],
    erase_write: Float[Array, "batch time heads key_dim"],
    log_decay: Float[Array, "batch time heads"] | Float[Array, "batch time heads key_dim"] | None,
    done: Bool[Array, "batch time"],
    initial_state: Float[Array, "batch heads key_dim value_dim"],
    implementation: Implementation = "auto",
    chunk_size: int | None = None,
) -> tuple[
    Float[Array, "batch heads key_dim value_dim"], Float[Array, "batch time heads value_dim"]
]:
    """Erase under one key, write under another, and read the memory.

    With S the state before the step (zero where ``done``), and for each head::

        S~ = exp(log_decay) S
        S' = S~ - erase_write (S~^T erase_key)^T + key value^T
        y  = S'^T query

    Args:
        query: As in ``delta_rule``, of every head.
        key: Key that the value is written under.
        value: The value to write.
        erase_key: Key that the value to remove is read with, after the decay.
        erase_write: Key that it is removed under.
        log_decay: As in ``delta_rule``.
        done: True where an input is the first of a new episode.
        initial_state: S before the first step. Its dtype is that of the computation.
        implementation: As in ``delta_rule``.
        chunk_size: As in ``delta_rule``.

    Returns:
        The last state, and y.

    Raises:
        ValueError: If a shape or an option does not fit.

    Source: Peng et al. 2025, arXiv 2503.14456, section 3.
    """
    name, dtype = "generalized_delta_rule", initial_state.dtype
    parts = (query, key, value, erase_key, erase_write)
    query, key, value, erase_key, erase_write = (part.astype(dtype) for part in parts)
    _check(name, query, key, value, log_decay, done, initial_state, implementation, chunk_size)
    keys = (*value.shape[:3], key.shape[-1])
    for part, values in (("key", key), ("erase_key", erase_key), ("erase_write", erase_write)):
        check_shape(name, part, values, keys)
    erased = Write(erase_write, scale=jnp.full(value.shape[:3], -1, dtype))
    inputs = Inputs(query, (Write(key, value), erased), erase_key, _cast(log_decay, dtype), done)
    return _run(inputs, initial_state, implementation, chunk_size)


def _check(name, query, key, value, log_decay, done, state, implementation, chunk_size):
    check_implementation(name, implementation, IMPLEMENTATIONS)
    if chunk_size is not None:
        check_positive(f"{name}: chunk_size", chunk_size)
    check_shapes(name, query, key, value, done)
    (batch, time), (heads, value_dim), key_dim = done.shape, value.shape[2:], query.shape[-1]
    if log_decay is not None:
        a_head = (batch, time, heads)
        check_shape(name, "log_decay", log_decay, a_head, (*a_head, key_dim))
    check_shape(name, "initial_state", state, (batch, heads, key_dim, value_dim))


def _cast(values, dtype):
    return None if values is None else values.astype(dtype)


def _run(inputs, state, implementation, chunk_size):
    """Pad the last chunk with steps that change nothing, and run."""
    steps = inputs.done.shape[1]
    if implementation == "auto":
        implementation = "sequential" if on_cpu() or steps == 1 else "chunked"
    chunk_size = min(CHUNK_SIZE if chunk_size is None else chunk_size, steps)
    padding = -steps % chunk_size

    def in_chunks(values):
        """Bring (batch, time, ...) to (chunks, chunk, batch, ...)."""
        if padding:
            values = jnp.pad(values, [(0, 0), (0, padding)] + [(0, 0)] * (values.ndim - 2))
        values = jnp.swapaxes(values, 0, 1)
        return values.reshape(-1, chunk_size, *values.shape[1:])

    chunks = jax.tree.map(in_chunks, inputs)
    run = _sequential if implementation == "sequential" else run_in_chunks
    state, outputs = run(chunks, state)  # pyright: ignore[reportGeneralTypeIssues]
    return state, jnp.swapaxes(outputs[:steps], 0, 1)


def _read(state, key):
    return jnp.einsum("bhkv,bhk->bhv", state, key)


def _read_values(state, value):
    return jnp.einsum("bhkv,bhv->bhk", state, value)


def _outer(key, value):
    return key[..., :, None] * value[..., None, :]


def _zero_at_start(done, state):
    """Forget by choosing, not by multiplying, for 0 times an infinity would be NaN."""
    return jnp.where(done[:, None, None, None], 0, state)


def _decay(log_decay):
    """Return the decays with axes of size 1 where they are shared, to multiply a state with."""
    decay = jnp.exp(log_decay)
    return decay.reshape(decay.shape + (1,) * (4 - decay.ndim))


def _decayed(inputs, state):
    state = _zero_at_start(inputs.done, state)
    return state if inputs.log_decay is None else _decay(inputs.log_decay) * state


def _entered(write, erased):
    """Return value + scale e."""
    if write.scale is None:
        return write.value
    removed = write.scale[..., None] * erased
    return removed if write.value is None else write.value + removed


def _step(state, inputs):
    """Forget, decay, erase, write and read once: the recurrence as it is defined."""
    state = _decayed(inputs, state)
    erased = None if inputs.erase_key is None else _read(state, inputs.erase_key)
    for write in inputs.writes:
        state = state + _outer(write.key, _entered(write, erased))
    return state, _read(state, inputs.query)


@jax.custom_vjp
def _sequential(chunks, state):
    # Not a single scan: under jax.vmap, outputs and gradients would batch along different axes.
    return _sequential_forward(chunks, state)[0]


def _sequential_forward(chunks, state):
    """Keep the states between chunks."""

    def chunk(state, inputs):
        last, outputs = jax.lax.scan(_step, state, inputs)
        return last, (state, outputs)

    last, (states, outputs) = jax.lax.scan(chunk, state, chunks)
    return (last, outputs.reshape(-1, *outputs.shape[2:])), (chunks, states)


def _sequential_backward(residuals, gradients):
    chunks, states = residuals
    to_last, to_outputs = gradients

    def again(state, inputs):
        """Step forward as before, keeping the decayed state and what was read from it."""
        state = _decayed(inputs, state)
        erased = None if inputs.erase_key is None else _read(state, inputs.erase_key)
        kept = state, erased
        for write in inputs.writes:
            state = state + _outer(write.key, _entered(write, erased))
        return state, kept

    def back(to_state, at_step):
        """From the gradient of the state after a step to that of the state before it."""
        inputs, (decayed, erased), to_output = at_step
        to_state = to_state + _outer(inputs.query, to_output)
        to_query = _read_values(decayed, to_output)
        to_writes, to_erased = [], 0
        for write in inputs.writes:
            entered = _entered(write, erased)
            to_query += write.key * (entered * to_output).sum(-1, keepdims=True)
            to_entered = _read(to_state, write.key)
            to_scale = None
            if write.scale is not None:
                to_scale = (to_entered * erased).sum(-1)
                to_erased += write.scale[..., None] * to_entered
            to_value = None if write.value is None else to_entered
            to_writes.append(Write(_read_values(to_state, entered), to_value, to_scale))
        to_erase_key = to_log_decay = None
        if inputs.erase_key is not None:
            to_erase_key = _read_values(decayed, to_erased)
            to_state = to_state + _outer(inputs.erase_key, to_erased)
        if inputs.log_decay is not None:
            to_log_decay = (to_state * decayed).sum(-1)
            if inputs.log_decay.ndim == 2:
                to_log_decay = to_log_decay.sum(-1)
            to_state = _decay(inputs.log_decay) * to_state
        to_state = _zero_at_start(inputs.done, to_state)
        return to_state, Inputs(to_query, tuple(to_writes), to_erase_key, to_log_decay, None)

    def chunk(to_state, at_chunk):
        inputs, state, to_outputs = at_chunk
        _, kept = jax.lax.scan(again, state, inputs)
        return jax.lax.scan(back, to_state, (inputs, kept, to_outputs), reverse=True)

    to_outputs = to_outputs.reshape(*chunks.done.shape[:2], *to_outputs.shape[1:])
    over = chunks, states, to_outputs
    to_state, to_chunks = jax.lax.scan(chunk, to_last, over, reverse=True)
    return to_chunks, to_state


_sequential.defvjp(_sequential_forward, _sequential_backward)
