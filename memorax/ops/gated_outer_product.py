"""Memories that add up outer products of keys and values, with one decay a head.

This file is the definition: ``_step`` is the recurrence, ``"sequential"`` scans over it, and
``"associative"`` combines steps in pairs. ``_chunked_outer_product.py`` is the fast form, which
forms no state inside a chunk.
"""

from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from memorax.ops._chunked_outer_product import run_in_chunks
from memorax.ops._heads import check_shape, check_shapes, per_head
from memorax.ops.associative_scan import associative_scan
from memorax.ops.implementation import Implementation, check_implementation, on_cpu
from memorax.validation import check_positive

CHUNK_SIZE = 16
"""Steps of a chunk: the work inside a chunk grows with its square, the work between chunks with
their number."""

State = PyTree[Array]
"""S, or (S, m)."""


def gated_outer_product(
    query: Float[Array, "batch time groups key_dim"],
    key: Float[Array, "batch time groups key_dim"],
    value: Float[Array, "batch time heads value_dim"],
    log_decay: Float[Array, "batch time heads"] | None,
    log_input_gate: Float[Array, "batch time heads"] | None,
    done: Bool[Array, "batch time"],
    initial_state: State,
    implementation: Implementation = "auto",
    chunk_size: int | None = None,
) -> tuple[State, Any]:
    """Add up outer products over time and read the sum, starting again at each episode.

    With S the state before the step (zero where ``done``), and for each head::

        S' = exp(log_decay) S + exp(log_input_gate) key value^T
        y  = query^T S'

    Without ``log_decay`` nothing decays, without ``log_input_gate`` the gate is 1. With it, gates
    may be too large for any number format, so S and y are kept divided by exp(m), where
    m' = max(log_decay + m, log_input_gate), zero before an episode's first step. No gradient flows
    through m, so results must not depend on its choice.

    For a normaliser, the sum of the gated keys, append a constant 1 to the values.

    Args:
        query: Read by all heads of a group; ``groups`` divides ``heads``.
        key: Written by all heads of a group.
        value: The value to write.
        log_decay: At most 0 and finite.
        log_input_gate: Finite.
        done: True where an input is the first of a new episode.
        initial_state: S before the first step, ``(batch, heads, key_dim, value_dim)``, or (S, m)
            if there is an input gate, m ``(batch, heads)``. Its dtype is that of the computation.
        implementation: ``"sequential"`` scans over steps; ``"associative"`` forms every state, in
            parallel; ``"chunked"`` uses matrix products inside chunks and scans over chunks. It
            supports reverse mode of first order, not forward mode (``jax.jvp``). ``"auto"`` is
            sequential for a single step, else chunked; on a CPU, where a step costs little, it
            runs forward step by step and only backward in chunks.
        chunk_size: Steps of a chunk; ``None`` is 16. It need not divide the number of steps.

    Returns:
        The last state, and y, ``(batch, time, heads, value_dim)``; with an input gate (y, m) where
        m is ``(batch, time, heads)``.

    Raises:
        ValueError: If a shape or an option does not fit.

    Source: Katharopoulos et al. 2020, arXiv 2006.16236; Dao and Gu 2024, arXiv 2405.21060,
        section 6 (chunks); Beck et al. 2024, arXiv 2405.04517, appendix A (the stabiliser m).
    """
    check_implementation("gated_outer_product", implementation, get_args(Implementation))
    chunk_size = CHUNK_SIZE if chunk_size is None else chunk_size
    check_positive("gated_outer_product: chunk_size", chunk_size)
    gated = log_input_gate is not None
    _check_shapes(query, key, value, log_decay, log_input_gate, done, initial_state)
    state, stabiliser = initial_state if gated else (initial_state, None)
    dtype = state.dtype
    query, key, value = (part.astype(dtype) for part in (query, key, value))
    if log_decay is not None:
        log_decay = log_decay.astype(dtype)
    if log_input_gate is not None:
        log_input_gate = log_input_gate.astype(dtype)
    if gated:
        stabiliser = jax.lax.stop_gradient(stabiliser)
    inputs = Inputs(query, key, value, log_decay, log_input_gate, done)
    forward_step = _step if implementation == "auto" and on_cpu() else None
    if implementation == "auto":
        implementation = "sequential" if done.shape[1] == 1 else "chunked"
    if implementation == "sequential":
        results = _sequential(inputs, state, stabiliser)
    elif implementation == "associative":
        results = _associative(inputs, state, stabiliser)
    else:
        chunk_size = min(chunk_size, done.shape[1])
        results = run_in_chunks(inputs, state, stabiliser, chunk_size, forward_step)
    (state, stabiliser), (outputs, stabilisers) = results
    return ((state, stabiliser), (outputs, stabilisers)) if gated else (state, outputs)


class Inputs(NamedTuple):
    """The inputs of each step; ``(batch, time, ...)``."""

    query: Any
    key: Any
    value: Any
    log_decay: Any
    log_input_gate: Any
    done: Any


def _check_shapes(query, key, value, log_decay, log_input_gate, done, initial_state):
    name = "gated_outer_product"
    check_shapes(name, query, key, value, done)
    (batch, time), (heads, value_dim) = done.shape, value.shape[2:]
    for part, gate in (("log_decay", log_decay), ("log_input_gate", log_input_gate)):
        if gate is not None:
            check_shape(name, part, gate, (batch, time, heads))
    state = (batch, heads, query.shape[-1], value_dim)
    expected = state if log_input_gate is None else (state, (batch, heads))
    got = jax.tree.map(jnp.shape, initial_state)
    if got != expected:
        raise ValueError(f"{name}: initial_state must be {expected}, got {got}")


def _weights(log_decay, log_input_gate, stabiliser):
    """Return the weights of the old state and of the new entry, and the new stabiliser."""
    if log_input_gate is None:
        return jnp.exp(log_decay), jnp.ones_like(log_decay), None
    kept = log_decay + stabiliser
    new = jax.lax.stop_gradient(jnp.maximum(kept, log_input_gate))
    return jnp.exp(kept - new), jnp.exp(log_input_gate - new), new


def _step(inputs, state, stabiliser):
    """Forget, decay, write and read once: the recurrence as it is defined."""
    query, key, value, log_decay, log_input_gate, done = inputs
    heads = state.shape[1]
    state = jnp.where(done[:, None, None, None], 0, state)
    if stabiliser is not None:
        stabiliser = jnp.where(done[:, None], 0, stabiliser)
    if log_decay is None:
        log_decay = jnp.zeros(value.shape[:-1], state.dtype)
    kept, entered, stabiliser = _weights(log_decay, log_input_gate, stabiliser)
    query, key = per_head(query, heads), per_head(key, heads)
    entry = key[..., None] * (entered[..., None] * value)[..., None, :]
    state = kept[..., None, None] * state + entry
    return state, stabiliser, jnp.einsum("bhk,bhkv->bhv", query, state)


def _sequential(inputs, state, stabiliser):
    """Scan over steps."""

    def step(carry, at_time):
        state, stabiliser, outputs = _step(at_time, *carry)
        return (state, stabiliser), (outputs, stabiliser)

    time_major = jax.tree.map(lambda values: jnp.swapaxes(values, 0, 1), inputs)
    last, results = jax.lax.scan(step, (state, stabiliser), time_major)
    return last, jax.tree.map(lambda values: jnp.swapaxes(values, 0, 1), results)


def _associative(inputs, state, stabiliser):
    """Combine steps in pairs: the decay over both, the stabiliser and the state at their end."""
    query, key, value, log_decay, log_input_gate, done = inputs
    heads = state.shape[1]
    gated = stabiliser is not None
    if log_decay is None:
        log_decay = jnp.zeros(value.shape[:-1], state.dtype)

    def combine(earlier, later):
        (decay, m, state), (next_decay, next_m, next_state) = earlier, later
        kept = m + next_decay
        new = jax.lax.stop_gradient(jnp.maximum(kept, next_m)) if gated else jnp.zeros_like(m)
        state = (
            jnp.exp(kept - new)[..., None, None] * state
            + jnp.exp(next_m - new)[..., None, None] * next_state
        )
        return decay + next_decay, new, state

    entry = per_head(key, heads)[..., None] * value[..., None, :]
    if gated:
        m = jax.lax.stop_gradient(log_input_gate)
        # An episode starts from an empty memory whose m is zero, of which the decay is left.
        fresh = jnp.where(done[..., None], jnp.maximum(log_decay, m), m)
        fresh = jax.lax.stop_gradient(fresh)
        entry = jnp.exp(log_input_gate - fresh)[..., None, None] * entry
        m = fresh
    else:
        stabiliser, m = jnp.zeros(state.shape[:2], state.dtype), jnp.zeros_like(log_decay)
    initial = (jnp.zeros_like(stabiliser), stabiliser, state)
    (_, last_m, last), (_, m, states) = associative_scan(
        combine, (log_decay, m, entry), done, initial
    )
    outputs = jnp.einsum("bthk,bthkv->bthv", per_head(query, heads), states)
    return (last, last_m if gated else None), (outputs, m if gated else None)
