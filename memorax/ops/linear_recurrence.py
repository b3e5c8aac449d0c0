"""Linear recurrences with a diagonal decay, real or complex.

Complex numbers are computed as pairs of real arrays, but for few of them in a sequential scan.
The backward pass is a linear recurrence too, run backwards in time by the same implementation, so
no implementation stores more than the states that it returns.

The functions support reverse-mode differentiation to any order, not forward mode (``jax.jvp``).
"""

from functools import partial
from typing import get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Inexact

from memorax.ops.implementation import Implementation, check_implementation, on_cpu
from memorax.validation import check_positive

CHUNK_SIZE = 128
"""Steps of a chunk: memory grows with it, the number of chunks falls."""

FEW_STATES = 256
"""States, over the batch, up to which a sequential scan has the fewest operations a step: complex
arithmetic, and the decay's gradient left to the end. Beyond it their memory counts."""


def linear_recurrence(
    decay: Inexact[Array, "..."],
    inputs: Inexact[Array, "batch time ..."],
    done: Bool[Array, "batch time"],
    initial_state: Inexact[Array, "batch ..."],
    implementation: Implementation = "auto",
    unroll: int = 1,
    chunk_size: int | None = None,
) -> tuple[Inexact[Array, "batch ..."], Inexact[Array, "batch time ..."]]:
    """Run a diagonal linear recurrence over time, its state zeroed where an episode starts.

    With h the state before the step (zero where ``done``)::

        h' = a h + b

    Args:
        decay: a, of the state's shape without batch if it is the same at every step, else
            ``(batch, time, *state)``. Real, or complex if the state is.
        inputs: b, ``(batch, time, *state)``; an axis of the state may be 1 and is then the same
            along it, without being copied. Real inputs may enter a complex state.
        done: True where an input is the first of a new episode.
        initial_state: h before the first step. Its dtype is that of the computation.
        implementation: ``"sequential"`` scans over steps; ``"associative"`` over all of them in
            parallel; ``"chunked"`` in parallel within chunks, which takes less memory. ``"auto"``
            is sequential on CPU, where that measured fastest at every length, and associative on
            an accelerator, where each step of a scan costs a launch.
        unroll: Steps per iteration of the sequential scan; 1 measured fastest on CPU.
        chunk_size: Steps of a chunk, at least 1; the last chunk may be shorter. ``None`` is 128.

    Returns:
        The last state and the state after each step.

    Raises:
        ValueError: If a shape, a dtype or an option does not fit.

    Source: the parallel form is Blelloch 1990; Martin and Cundy 2018, arXiv 1709.04057.
    """
    check_implementation("linear_recurrence", implementation, get_args(Implementation))
    check_positive("linear_recurrence: unroll", unroll)
    chunk_size = CHUNK_SIZE if chunk_size is None else chunk_size
    check_positive("linear_recurrence: chunk_size", chunk_size)
    _check_shapes(decay, inputs, done, initial_state)
    if implementation == "auto":
        implementation = "sequential" if on_cpu() or inputs.shape[1] == 1 else "associative"
    per_step = decay.ndim > initial_state.ndim
    if implementation == "sequential" and initial_state.size <= FEW_STATES:
        dtype = initial_state.dtype
    else:
        dtype = jnp.finfo(initial_state.dtype).dtype
    state, states = _recurrence(  # pyright: ignore[reportGeneralTypeIssues]
        tuple(_time_major(part) if per_step else part for part in _parts(decay, dtype)),
        tuple(_time_major(part) for part in _parts(inputs, dtype)),
        _time_major(done),
        _parts(initial_state, dtype),
        implementation,
        unroll,
        chunk_size,
    )
    return _joined(state), _time_major(_joined(states))


def _check_shapes(decay, inputs, done, initial_state):
    batch, *state = initial_state.shape
    steps = inputs.shape[:2]
    if inputs.ndim != initial_state.ndim + 1 or steps[:1] != (batch,) or steps[1] == 0:
        raise ValueError(
            "linear_recurrence: inputs must be (batch, time, *state) with at least one step, for "
            f"an initial_state of shape {initial_state.shape}, got {inputs.shape}"
        )
    if any(size not in (1, whole) for size, whole in zip(inputs.shape[2:], state, strict=True)):
        raise ValueError(
            f"linear_recurrence: inputs of shape {inputs.shape} do not fit a state of shape "
            f"{tuple(state)}: each axis must be as long, or 1"
        )
    if decay.shape not in (tuple(state), (*steps, *state)):
        raise ValueError(
            f"linear_recurrence: decay must have shape {tuple(state)} or {(*steps, *state)}, "
            f"got {decay.shape}"
        )
    if done.shape != steps:
        raise ValueError(f"linear_recurrence: done must have shape {steps}, got {done.shape}")
    if not jnp.iscomplexobj(initial_state) and (
        jnp.iscomplexobj(decay) or jnp.iscomplexobj(inputs)
    ):
        raise ValueError(
            f"linear_recurrence: a complex decay ({decay.dtype}) or input ({inputs.dtype}) needs a "
            f"complex initial_state, got {initial_state.dtype}"
        )


def _time_major(values):
    return jnp.swapaxes(values, 0, 1)


def _parts(values, dtype):
    """Return a complex array, or a real one, or the real and imaginary ones, as ``dtype`` says."""
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return (values.astype(dtype),)
    parts = (values.real, values.imag) if jnp.iscomplexobj(values) else (values,)
    return tuple(part.astype(dtype) for part in parts)


def _joined(parts):
    return parts[0] if len(parts) == 1 else jax.lax.complex(*parts)


def _times(one, other):
    """Multiply numbers given as (real,) or (real, imaginary)."""
    if len(one) == 1:
        return tuple(one[0] * part for part in other)
    if len(other) == 1:
        return tuple(part * other[0] for part in one)
    return one[0] * other[0] - one[1] * other[1], one[0] * other[1] + one[1] * other[0]


def _plus(one, other):
    """Add numbers, of which one may have no imaginary part."""
    longer, shorter = (one, other) if len(one) >= len(other) else (other, one)
    return *(a + b for a, b in zip(longer, shorter, strict=False)), *longer[len(shorter) :]


def _conjugate(parts):
    """Transpose a product with numbers; JAX transposes one with complex arrays without it."""
    return parts if len(parts) == 1 else (parts[0], -parts[1])


def _where(done, one, other):
    """Choose by step and row; never by multiplying, for 0 times an infinity would be NaN."""

    def choose(one, other):
        return jnp.where(done.reshape(done.shape + (1,) * (other.ndim - done.ndim)), one, other)

    return tuple(choose(a, b) for a, b in zip(one, other, strict=True))


def _zero_where(done, parts):
    return _where(done, tuple(jnp.zeros_like(part) for part in parts), parts)


def _is_per_step(decay, state):
    return decay[0].ndim > state[0].ndim


@partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def _recurrence(decay, inputs, done, state, implementation, unroll, chunk_size):
    run = {"sequential": _sequential, "associative": _associative, "chunked": _chunked}
    return run[implementation](decay, inputs, done, state, unroll, chunk_size)


def _sequential(decay, inputs, done, state, unroll, _):
    per_step = _is_per_step(decay, state)

    def step(h, at_time):
        b, done, *a = at_time
        h = _plus(_times(a[0] if per_step else decay, _zero_where(done, h)), b)
        return h, h

    over = (inputs, done, decay) if per_step else (inputs, done)
    return jax.lax.scan(step, state, over, unroll=unroll)


def _associative(decay, inputs, done, state, *_):
    """Combine steps in pairs, the initial state standing before them as a step without decay."""
    shape = (done.shape[0], *state[0].shape)
    decay = tuple(jnp.broadcast_to(part, shape) for part in decay)
    inputs = tuple(jnp.broadcast_to(part, shape) for part in inputs)
    inputs += tuple(jnp.zeros_like(inputs[0]) for _ in state[len(inputs) :])

    def combine(earlier, later):
        (a, b, starts), (next_a, next_b, restarts) = earlier, later
        return (
            _times(next_a, a),
            _where(restarts, next_b, _plus(_times(next_a, b), next_b)),
            starts | restarts,
        )

    decays, states, starts = jax.lax.associative_scan(combine, (decay, inputs, done))
    states = _where(starts, states, _plus(_times(decays, tuple(h[None] for h in state)), states))
    return tuple(part[-1] for part in states), states


def _chunked(decay, inputs, done, state, _, chunk_size):
    time = done.shape[0]
    chunk_size = min(chunk_size, time)
    padding = -time % chunk_size
    per_step = _is_per_step(decay, state)

    def in_chunks(values, filler):
        """Pad the last chunk with steps that keep the state."""
        pad = jnp.full((padding, *values.shape[1:]), filler, values.dtype)
        return jnp.concatenate([values, pad]).reshape(-1, chunk_size, *values.shape[1:])

    if not per_step and padding:
        decay = tuple(jnp.broadcast_to(part, (time, *state[0].shape)) for part in decay)
        per_step = True
    chunks = (
        tuple(in_chunks(part, 0) for part in inputs),
        in_chunks(done, False),
        tuple(in_chunks(part, 1 - i) for i, part in enumerate(decay)) if per_step else None,
    )

    def chunk(h, steps):
        inputs, done, own_decay = steps
        return _associative(own_decay if per_step else decay, inputs, done, h)

    state, states = jax.lax.scan(chunk, state, chunks)
    return state, tuple(part.reshape(-1, *part.shape[2:])[:time] for part in states)


def _forward(decay, inputs, done, state, implementation, unroll, chunk_size):
    last, states = _recurrence(  # pyright: ignore[reportGeneralTypeIssues]
        decay, inputs, done, state, implementation, unroll, chunk_size
    )
    sizes = tuple(part.shape for part in inputs)
    return (last, states), (decay, sizes, done, state, states)


def _backward(implementation, unroll, chunk_size, residuals, gradients):
    decay, input_shapes, done, state, states = residuals
    last_gradient, state_gradients = gradients
    # The last state is the state after the last step.
    state_gradients = tuple(
        part.at[-1].add(last) for part, last in zip(state_gradients, last_gradient, strict=True)
    )
    constant = not _is_per_step(decay, state)
    if implementation == "sequential" and constant and state[0].size > FEW_STATES:
        to_decay, to_inputs, to_state = _backward_through_constant_decay(
            decay, input_shapes, done, state, states, state_gradients, unroll
        )
        return to_decay, to_inputs, None, to_state

    # The gradient of a state is its own and, decayed, that of the state after it.
    def shifted(values, last):
        return jnp.concatenate([values[1:], jnp.full((1, *values.shape[1:]), last, values.dtype)])

    conjugate = _conjugate(decay)
    per_step = _is_per_step(decay, state)
    next_decay = tuple(shifted(part, 0) for part in conjugate) if per_step else conjugate
    run = partial(_recurrence, implementation=implementation, unroll=unroll, chunk_size=chunk_size)
    _, totals = run(
        tuple(part[::-1] for part in next_decay) if per_step else next_decay,
        tuple(part[::-1] for part in state_gradients),
        shifted(done, True)[::-1],
        tuple(jnp.zeros_like(part) for part in state),
    )
    totals = tuple(part[::-1] for part in totals)
    before = tuple(
        jnp.concatenate([first[None], part[:-1]]) for first, part in zip(state, states, strict=True)
    )
    kept = _zero_where(done, totals)
    to_decay = _times(kept, _conjugate(_zero_where(done, before)))
    if not per_step:
        to_decay = tuple(part.sum((0, 1)) for part in to_decay)
    to_state = _times(
        tuple(part[0] if per_step else part for part in conjugate), tuple(part[0] for part in kept)
    )
    return (
        to_decay[: len(decay)],
        tuple(_summed(part, shape) for part, shape in zip(totals, input_shapes, strict=False)),
        None,
        to_state,
    )


def _backward_through_constant_decay(
    decay, input_shapes, done, state, states, state_gradients, unroll
):
    """Scan backwards, adding up the decay's gradient on the way instead of keeping its terms."""
    conjugate = _conjugate(decay)

    def step(carried, at_time):
        after, to_decay, forgotten = carried
        gradient, h, done = at_time
        to_decay = _plus(to_decay, _times(after, _conjugate(_zero_where(forgotten, h))))
        total = _plus(gradient, _times(conjugate, after))
        to_inputs = tuple(
            _summed(part, shape[1:]) for part, shape in zip(total, input_shapes, strict=False)
        )
        return (_zero_where(done, total), to_decay, done), to_inputs

    nothing = tuple(jnp.zeros_like(part) for part in state)
    (after, to_decay, forgotten), to_inputs = jax.lax.scan(
        step,
        (nothing, nothing, jnp.zeros_like(done[0])),
        (state_gradients, states, done),
        reverse=True,
        unroll=unroll,
    )
    to_decay = _plus(to_decay, _times(after, _conjugate(_zero_where(forgotten, state))))
    return (
        tuple(part.sum(0) for part in to_decay[: len(decay)]),
        to_inputs,
        _times(conjugate, after),
    )


def _summed(values, shape):
    """Add up along the axes that were broadcast."""
    axes = tuple(axis for axis, size in enumerate(shape) if size != values.shape[axis])
    return values.sum(axes, keepdims=True) if axes else values


_recurrence.defvjp(_forward, _backward)
