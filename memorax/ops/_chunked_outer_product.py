"""The recurrence of ``gated_outer_product.py`` chunk by chunk.

A matrix state for every step is what makes these memories slow, so none is formed. Inside a chunk,
what each query reads of each key's value is a product of matrices, as in attention; only the states
between chunks are computed one after another. The backward pass, written by hand, does the same in
reverse and keeps nothing but the inputs, the outputs and the states between chunks.

Decays inside a chunk are differences of sums of logarithms. The sums start again at every episode
and carry their rounding errors along, so that a strong decay does not blur the weak ones after it.

The functions support reverse mode of first order, not forward mode (``jax.jvp``).

Source: Dao and Gu 2024, arXiv 2405.21060, section 6; Beck et al. 2024, arXiv 2405.04517,
appendix A.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from memorax.ops import _compensated_sum

STEPWISE_STATE = 32 * 32
"""Size of a head's state up to which a CPU steps through time in the forward pass even if it has to
keep states for a backward pass: measured, it is up to 1.6 times faster at 16 x 16 and a sixth
slower at 64 x 64. Without a backward pass it is faster at both."""

NEVER = -1e30
"""The logarithm of an input gate that lets nothing in, finite so that differences are."""


def run_in_chunks(
    inputs: Any, state: Any, stabiliser: Any, chunk_size: int, step: Callable | None
) -> tuple[Any, Any]:
    """Return the last state and stabiliser, and the outputs and stabilisers of all steps.

    Args:
        inputs: ``gated_outer_product.Inputs``.
        state: ``(batch, heads, key_dim, value_dim)``.
        stabiliser: ``(batch, heads)``, or ``None`` without input gate.
        chunk_size: Steps of a chunk; the last chunk is padded.
        step: The definition, to step through time with in the forward pass; ``None``: the forward
            pass runs in chunks as well.
    """
    steps = inputs.done.shape[1]
    padding = -steps % chunk_size

    def padded(values, filler=0):
        if values is None or not padding:
            return values
        widths = [(0, padding) if axis == 1 else (0, 0) for axis in range(values.ndim)]
        return jnp.pad(values, widths, constant_values=filler)

    fillers = inputs._replace(
        query=0, key=0, value=0, log_decay=0, log_input_gate=NEVER, done=False
    )
    chunks = (padded(values, filler) for values, filler in zip(inputs, fillers, strict=True))
    last, (outputs, m) = _run_chunks(  # pyright: ignore[reportGeneralTypeIssues]
        type(inputs)(*chunks), state, stabiliser, chunk_size, step
    )
    return last, (outputs[:, :steps], None if m is None else m[:, :steps])


def _finite(values):
    """Return values with 0 where not finite, and for each step NaN or 0 to add to its outputs.

    In a product of matrices a NaN times a weight of zero is NaN: it would leave its episode.
    """
    finite = jnp.isfinite(values)
    poison = jnp.where(finite.all(-1), 0, jnp.nan).astype(values.dtype)
    return jnp.where(finite, values, 0), poison


class _Chunk(NamedTuple):
    """One chunk of the inputs; ``(batch, groups, heads of a group, chunk, ...)``."""

    query: Any  # without heads of a group
    key: Any  # without heads of a group
    value: Any
    log_input_gate: Any
    sums: Any  # of log decays, as number and error
    poison: Any  # NaN where an entry must not be read, else 0
    query_poison: Any  # without heads of a group
    done: Any


class _Weights(NamedTuple):
    """The weights inside a chunk; ``(batch, groups, heads of a group, ...)``."""

    attention: Any  # (..., chunk, chunk): of an entry in what a later step reads
    state: Any  # (..., chunk): of the state before the chunk in what a step reads
    stabiliser: Any  # (..., chunk)
    same_episode: Any  # (..., chunk, chunk): whether an entry is of a step's episode, not after it


def _heads_first(values, groups):
    """Bring (batch, chunk, heads, ...) to (batch, groups, heads of a group, chunk, ...)."""
    values = values.reshape(*values.shape[:2], groups, -1, *values.shape[3:])
    return jnp.moveaxis(values, 1, 3)


def _steps_first(values):
    values = jnp.moveaxis(values, 3, 1)
    return values.reshape(*values.shape[:2], -1, *values.shape[4:])


def _by_group(values, groups, axis=1):
    """Split the axis of heads to groups and heads of a group."""
    return values.reshape(*values.shape[:axis], groups, -1, *values.shape[axis + 1 :])


def _by_head(values, axis=1):
    """Join the axes of groups and of heads of a group."""
    return values.reshape(*values.shape[:axis], -1, *values.shape[axis + 2 :])


def _slice(values, index, size):
    return jax.lax.dynamic_slice_in_dim(values, index * size, size, axis=1)


def _write(buffer, values, index, size):
    return jax.lax.dynamic_update_slice_in_dim(buffer, values, index * size, axis=1)


def _with_sums(inputs, chunk_size):
    """Return the sums of log decays, if there are any, and where gates are not finite."""
    poison = jnp.zeros(inputs.value.shape[:3], inputs.value.dtype)
    if inputs.log_input_gate is not None:
        poison += _finite(inputs.log_input_gate[..., None])[1]
    if inputs.log_decay is None:
        return None, poison
    log_decay, gate_poison = _finite(inputs.log_decay[..., None])
    return (
        _sums_of_logarithms(log_decay[..., 0], inputs.done, chunk_size),
        poison + gate_poison,
    )


def _by_chunk_step(values, chunk_size):
    """Bring (batch, time, ...) to (chunk, batch, chunks, ...)."""
    values = values.reshape(values.shape[0], -1, chunk_size, *values.shape[2:])
    return jnp.moveaxis(values, 2, 0)


def _by_step(values):
    values = jnp.moveaxis(values, 0, 2)
    return values.reshape(values.shape[0], -1, *values.shape[3:])


def _sums_of_logarithms(log_decay, done, chunk_size):
    """Add up log decays from the episode's or the chunk's first step on, as number and error."""

    def step(carry, at_time):
        decay, done = at_time
        carry = _compensated_sum.add(*carry, decay, done[..., None])
        return carry, carry

    over = _by_chunk_step(log_decay, chunk_size), _by_chunk_step(done, chunk_size)
    nothing = jnp.zeros_like(over[0][0])
    _, sums = jax.lax.scan(step, (nothing, nothing), over)
    return tuple(_by_step(part) for part in sums)


def _sums_backward(to_sums, to_last, done, chunk_size):
    """Return the gradient of log decays, of all sums from theirs to the episode's end."""

    def step(later, at_time):
        to_sum, done = at_time
        # The decay of an episode's first step has nothing to act on.
        total = jnp.where(done[..., None], 0, later + to_sum)
        return total, total

    over = _by_chunk_step(to_sums, chunk_size), _by_chunk_step(done, chunk_size)
    _, totals = jax.lax.scan(step, to_last, over, reverse=True)
    return _by_step(totals)


def _take_chunk(inputs, sums, poison, index, size):
    """Slice the inputs to a chunk and remove non-finite values from its products."""
    groups = inputs.query.shape[2]

    def cut(values):
        return _heads_first(_slice(values, index, size), groups)

    query, query_poison = _finite(cut(inputs.query)[:, :, 0])
    key, key_poison = _finite(cut(inputs.key)[:, :, 0])
    value, value_poison = _finite(cut(inputs.value))
    gate = inputs.log_input_gate
    if gate is not None:
        gate = cut(gate)
        gate = jnp.where(jnp.isfinite(gate), gate, 0)
    return _Chunk(
        query,
        key,
        value,
        gate,
        None if sums is None else tuple(cut(part) for part in sums),
        cut(poison) + value_poison + key_poison[:, :, None],
        query_poison,
        _slice(inputs.done, index, size)[:, None, None],
    )


def _chunk_weights(chunk, stabiliser, row_poison=None):
    size = chunk.done.shape[-1]
    episode = jnp.cumsum(chunk.done, axis=-1)
    # (..., t, s): the entry of step s is there to be read at step t.
    same_episode = (episode[..., :, None] == episode[..., None, :]) & jnp.tril(
        jnp.ones((size, size), bool)
    )
    poison = chunk.poison
    entry = poison if chunk.log_input_gate is None else chunk.log_input_gate + poison
    logs = jnp.broadcast_to(entry[..., None, :], (*poison.shape, size))
    total = jnp.zeros_like(poison)
    if chunk.sums is not None:
        total, error = chunk.sums
        logs += (total[..., :, None] - total[..., None, :]) + (
            error[..., :, None] - error[..., None, :]
        )
        total += error
    logs = jnp.where(same_episode, logs, -jnp.inf)
    before = episode == 0
    m = None
    if stabiliser is not None:
        total += jnp.where(before, stabiliser[..., None], 0)
        m = jnp.maximum(total, logs.max(-1))
        logs, total = logs - m[..., None], total - m
    if row_poison is not None:
        logs, total = logs + row_poison[..., None], total + row_poison
        logs = jnp.where(same_episode, logs, -jnp.inf)
    return _Weights(jnp.exp(logs), jnp.where(before, jnp.exp(total), 0), m, same_episode)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _run_chunks(inputs, state, stabiliser, size, step):
    sums, poison = _with_sums(inputs, size)
    run = _forward_by_chunks if step is None else partial(_forward_by_steps, step)
    ends, results, _ = run(inputs, sums, poison, state, stabiliser, size)
    return ends, results


def _run_chunks_forward(inputs, state, stabiliser, size, step):
    sums, poison = _with_sums(inputs, size)
    if math.prod(state.shape[-2:]) > STEPWISE_STATE:
        step = None
    run = _forward_by_chunks if step is None else partial(_forward_by_steps, step)
    ends, results, before = run(inputs, sums, poison, state, stabiliser, size)
    return (ends, results), (inputs, sums, poison, before, ends[0], results[0])


def _forward_by_steps(step, inputs, sums, poison, state, stabiliser, size):
    """Go step by step, keeping the states between chunks."""

    def one_step(carry, index):
        state, stabiliser, all_outputs, all_m = carry
        at_time = jax.tree.map(lambda values: values[:, index], inputs)
        state, stabiliser, outputs = step(at_time, state, stabiliser)
        all_outputs = _write(all_outputs, outputs[:, None], index, 1)
        if stabiliser is not None:
            all_m = _write(all_m, stabiliser[:, None], index, 1)
        return (state, stabiliser, all_outputs, all_m), None

    def run(carry, index):
        before = carry[:2]
        carry, _ = jax.lax.scan(one_step, carry, index * size + jnp.arange(size))
        return carry, before

    buffers = jnp.zeros_like(inputs.value), None if stabiliser is None else jnp.zeros_like(poison)
    chunks = jnp.arange(inputs.done.shape[1] // size)
    (last, last_m, *results), before = jax.lax.scan(run, (state, stabiliser, *buffers), chunks)
    return (last, last_m), tuple(results), before


def _forward_by_chunks(inputs, sums, poison, state, stabiliser, size):
    def run(carry, index):
        state, stabiliser, all_outputs, all_m = carry
        before = state, stabiliser
        chunk = _take_chunk(inputs, sums, poison, index, size)
        weights = _chunk_weights(chunk, stabiliser)
        clean, state_poison = _finite(state.reshape(*state.shape[:3], -1))
        clean = clean.reshape(state.shape)
        of_state = jnp.where(weights.state == 0, 0, weights.state + state_poison[..., None])
        scores = jnp.einsum("bgtk,bgsk->bgts", chunk.query, chunk.key)[:, :, None]
        read = jnp.where(weights.same_episode, scores * weights.attention, 0)
        outputs = jnp.einsum("bghts,bghsv->bghtv", read, chunk.value)
        outputs += of_state[..., None] * jnp.einsum("bgtk,bghkv->bghtv", chunk.query, clean)
        outputs += chunk.query_poison[:, :, None, :, None]
        to_end = weights.attention[..., -1, :, None]
        kept = weights.state[..., -1, None, None]
        state = jnp.where(kept == 0, 0, kept * state)
        state += jnp.einsum("bgsk,bghsv->bghkv", chunk.key, to_end * chunk.value)
        all_outputs = _write(all_outputs, _steps_first(outputs), index, size)
        m = weights.stabiliser
        if m is not None:
            all_m = _write(all_m, _steps_first(m), index, size)
            stabiliser = m[..., -1]
        return (state, stabiliser, all_outputs, all_m), before

    groups = inputs.query.shape[2]
    start = jax.tree.map(lambda values: _by_group(values, groups), (state, stabiliser))
    buffers = jnp.zeros_like(inputs.value), None if stabiliser is None else jnp.zeros_like(poison)
    chunks = jnp.arange(inputs.done.shape[1] // size)
    (*last, outputs, m), before = jax.lax.scan(run, (*start, *buffers), chunks)
    before = jax.tree.map(lambda values: _by_head(values, axis=2), before)
    return jax.tree.map(_by_head, tuple(last)), (outputs, m), before


def _run_chunks_backward(size, step, residuals, gradients):
    inputs, sums, poison, before, last, outputs = residuals
    (last_gradient, _), (output_gradients, _) = gradients
    groups = inputs.query.shape[2]
    states, stabilisers = jax.tree.map(lambda values: _by_group(values, groups, axis=2), before)
    last, last_gradient = _by_group(last, groups), _by_group(last_gradient, groups)

    def run(carry, at_chunk):
        after, state_after, to_inputs = carry
        index, state, stabiliser = at_chunk
        chunk = _take_chunk(inputs, sums, poison, index, size)
        # A gradient that is not finite is taken out of the products too.
        gradient = _heads_first(_slice(output_gradients, index, size), groups)
        gradient, gradient_poison = _finite(gradient)
        state, _ = _finite(state)
        weights = _chunk_weights(chunk, stabiliser, gradient_poison)
        to_end = weights.attention[..., -1, :, None]
        # Masked after the product: what comes from later may be NaN.
        at_end = weights.same_episode[..., -1, :, None]
        read_gradient = weights.state[..., None] * gradient
        score_gradient = jnp.einsum("bghtv,bghsv->bghts", gradient, chunk.value)
        score_gradient = jnp.where(weights.same_episode, score_gradient * weights.attention, 0)
        score_gradient = score_gradient.sum(2)
        to_query = jnp.einsum("bgts,bgsk->bgtk", score_gradient, chunk.key)
        to_query += jnp.einsum("bghtv,bghkv->bgtk", read_gradient, state)
        to_key = jnp.einsum("bgts,bgtk->bgsk", score_gradient, chunk.query)
        through_state = jnp.einsum("bghsv,bghkv->bgsk", to_end * chunk.value, after)
        to_key += jnp.where(at_end[:, :, 0], through_state, 0)
        # Computed again, not transposed: XLA on CPU is slow at products of transposed arrays.
        read = jnp.einsum("bgsk,bgtk->bgst", chunk.key, chunk.query)[:, :, None]
        read = jnp.where(weights.same_episode.mT, read * weights.attention.mT, 0)
        to_value = jnp.einsum("bghst,bghtv->bghsv", read, gradient)
        through_state = jnp.einsum("bgsk,bghkv->bghsv", chunk.key, after)
        to_value += jnp.where(at_end, to_end * through_state, 0)
        kept = weights.state[..., -1, None, None]
        before = jnp.where(kept == 0, 0, kept * after)
        before += jnp.einsum("bgtk,bghtv->bghkv", chunk.query, read_gradient)
        to_end_state = None if sums is None else (after * state_after).sum((-2, -1))
        to_chunk = to_query[:, :, None], to_key[:, :, None], to_value
        to_inputs = tuple(
            _write(buffer, _steps_first(values), index, size)
            for buffer, values in zip(to_inputs, to_chunk, strict=True)
        )
        return (before, state, to_inputs), to_end_state

    buffers = tuple(jnp.zeros_like(values) for values in (inputs.query, inputs.key, inputs.value))
    over = jnp.arange(states.shape[0]), states, stabilisers
    (to_state, _, (to_query, to_key, to_value)), to_end_states = jax.lax.scan(
        run, (last_gradient, last, buffers), over, reverse=True
    )
    # A gate scales its own entry and what is read at later steps: both sums are known already.
    to_log_decay = to_log_input_gate = None
    entered = (inputs.value * to_value).sum(-1)
    if inputs.log_input_gate is not None:
        to_log_input_gate = entered
    if to_end_states is not None:
        to_sums = (output_gradients * outputs).sum(-1) - entered
        to_end = jnp.moveaxis(to_end_states.reshape(*to_end_states.shape[:2], -1), 0, 1)
        to_log_decay = _sums_backward(to_sums, to_end, inputs.done, size)
    to_inputs = inputs._replace(
        query=to_query,
        key=to_key,
        value=to_value,
        log_decay=to_log_decay,
        log_input_gate=to_log_input_gate,
        done=None,
    )
    to_stabiliser = None if stabilisers is None else _by_head(jnp.zeros_like(stabilisers[0]))
    return to_inputs, _by_head(to_state), to_stabiliser


_run_chunks.defvjp(_run_chunks_forward, _run_chunks_backward)
