"""Gated recurrences with hand-written backward passes.

Reverse-mode differentiation of a scan forms every weight gradient as one small product per step.
Here the reverse scan only carries the state's gradient; each weight gradient is one large product
over batch and time after it. The scan forward stores, instead of the gates, the factors by which
the backward pass multiplies, so a reverse step is a product with the recurrent kernel and little
else.

The functions support reverse-mode differentiation to any order, not forward mode (``jax.jvp``).
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def gru(
    inputs: Float[Array, "batch time features"],
    done: Bool[Array, "batch time"],
    initial_state: Float[Array, "batch hidden_dim"],
    input_kernel: Float[Array, "features 3*hidden_dim"],
    input_bias: Float[Array, " 3*hidden_dim"],
    recurrent_kernel: Float[Array, "hidden_dim 3*hidden_dim"],
    candidate_bias: Float[Array, " hidden_dim"],
    unroll: int = 1,
) -> tuple[Float[Array, "batch hidden_dim"], Float[Array, "batch time hidden_dim"]]:
    """Run a gated recurrent unit over time, its state zeroed where an episode starts.

    With h the state before the step (zero where ``done``), and kernels ordered r, z, n::

        r  = sigmoid(x W_r + b_r + h U_r)
        z  = sigmoid(x W_z + b_z + h U_z)
        n  = tanh(x W_n + b_n + r (h U_n + c_n))
        h' = (1 - z) n + z h

    Args:
        inputs: x. The kernels' dtype is that of the products and gates.
        done: True where an input is the first of a new episode.
        initial_state: h before the first step. Its dtype is that of the state throughout.
        input_kernel: W, the three gates side by side.
        input_bias: b, the three gates side by side.
        recurrent_kernel: U, the three gates side by side.
        candidate_bias: c_n, the bias inside the reset gate's product.
        unroll: Steps per iteration of the scan.

    Returns:
        The last state and the state after each step.

    Source: Cho et al. 2014, arXiv 1406.1078; the candidate as in Flax, PyTorch and cuDNN.
    """
    state, outputs = _gru(  # pyright: ignore[reportGeneralTypeIssues]
        jnp.swapaxes(inputs, 0, 1),
        jnp.swapaxes(done, 0, 1),
        initial_state,
        input_kernel,
        input_bias,
        recurrent_kernel,
        candidate_bias,
        unroll,
    )
    return state, jnp.swapaxes(outputs, 0, 1)


def lstm(
    inputs: Float[Array, "batch time features"],
    done: Bool[Array, "batch time"],
    initial_state: tuple[Float[Array, "batch hidden_dim"], Float[Array, "batch hidden_dim"]],
    input_kernel: Float[Array, "features 4*hidden_dim"],
    recurrent_kernel: Float[Array, "hidden_dim 4*hidden_dim"],
    bias: Float[Array, " 4*hidden_dim"],
    unroll: int = 1,
) -> tuple[
    tuple[Float[Array, "batch hidden_dim"], Float[Array, "batch hidden_dim"]],
    Float[Array, "batch time hidden_dim"],
]:
    """Run a long short-term memory over time, its state zeroed where an episode starts.

    With (c, h) the state before the step (zero where ``done``), and kernels ordered i, f, g, o::

        i, f, o = sigmoid(x W + h U + b)
        g  = tanh(x W_g + h U_g + b_g)
        c' = f c + i g
        h' = o tanh(c')

    Args:
        inputs: x. The kernels' dtype is that of the products and gates.
        done: True where an input is the first of a new episode.
        initial_state: (c, h) before the first step. Their dtype is that of the state throughout.
        input_kernel: W, the four gates side by side.
        recurrent_kernel: U, the four gates side by side.
        bias: b, the four gates side by side.
        unroll: Steps per iteration of the scan.

    Returns:
        The last state (c, h) and h after each step.

    Source: Hochreiter and Schmidhuber 1997; the forget gate of Gers et al. 2000.
    """
    state, outputs = _lstm(  # pyright: ignore[reportGeneralTypeIssues]
        jnp.swapaxes(inputs, 0, 1),
        jnp.swapaxes(done, 0, 1),
        initial_state,
        input_kernel,
        recurrent_kernel,
        bias,
        unroll,
    )
    return state, jnp.swapaxes(outputs, 0, 1)


def _zero_where(done, state):
    """Forget by choosing, never by multiplying: 0 times an infinity would be NaN."""
    return jnp.where(done[:, None], jnp.zeros_like(state), state)


def _as_kept(dtype, *factors):
    """Keep factors in the state's dtype.

    XLA on CPU would convert all of a half-precision array
    at each step, which makes a scan's time quadratic.
    """
    return tuple(factor.astype(dtype) for factor in factors)


def _states_before(done, initial_state, outputs):
    """Return the state that each step read, resets applied; all time-major."""
    before = jnp.concatenate([initial_state[None], outputs[:-1]])
    return jnp.where(done[..., None], jnp.zeros_like(before), before)


def _product(gradient, kernel, dtype):
    """Multiply in the kernel's dtype and return the product in another."""
    return (gradient.astype(kernel.dtype) @ kernel).astype(dtype)


def _weight_gradient(inputs, gradient, dtype):
    """Sum over time and batch of the outer products of inputs and gradients, as one product."""
    return jnp.einsum("tbi,tbo->io", inputs.astype(gradient.dtype), gradient).astype(dtype)


@partial(jax.custom_vjp, nondiff_argnums=(7,))
def _gru(
    inputs,
    done,
    initial_state,
    input_kernel,
    input_bias,
    recurrent_kernel,
    candidate_bias,
    unroll,
):
    def step(h, at_time):
        x, done = at_time
        h, *_ = _gru_step(h, x, done, input_kernel, input_bias, recurrent_kernel, candidate_bias)
        return h, h

    return jax.lax.scan(step, initial_state, (inputs, done), unroll=unroll)


def _gru_step(h, x, done, input_kernel, input_bias, recurrent_kernel, candidate_bias):
    hidden_dim = h.shape[-1]
    h = _zero_where(done, h)
    from_input = x.astype(input_kernel.dtype) @ input_kernel + input_bias
    from_state = h.astype(recurrent_kernel.dtype) @ recurrent_kernel
    gates = jax.nn.sigmoid(from_input[:, : 2 * hidden_dim] + from_state[:, : 2 * hidden_dim])
    r, z = jnp.split(gates, 2, axis=-1)
    recalled = from_state[:, 2 * hidden_dim :] + candidate_bias
    n = jnp.tanh(from_input[:, 2 * hidden_dim :] + r * recalled)
    next_h = ((1 - z) * n + z * h).astype(h.dtype)
    # What the state's gradient is multiplied by on its way to each gate's pre-activation.
    to_candidate = (1 - z) * (1 - n * n)
    to_r = to_candidate * recalled * r * (1 - r)
    to_z = (h - n) * z * (1 - z)
    to_gates = jnp.concatenate([to_r, to_z.astype(z.dtype), to_candidate * r], axis=-1)
    return next_h, *_as_kept(h.dtype, to_gates, to_candidate, z)


def _gru_forward(
    inputs,
    done,
    initial_state,
    input_kernel,
    input_bias,
    recurrent_kernel,
    candidate_bias,
    unroll,
):
    def step(h, at_time):
        x, done = at_time
        h, *factors = _gru_step(
            h, x, done, input_kernel, input_bias, recurrent_kernel, candidate_bias
        )
        return h, (h, *factors)

    state, (outputs, *factors) = jax.lax.scan(step, initial_state, (inputs, done), unroll=unroll)
    residuals = (inputs, done, initial_state, input_kernel, recurrent_kernel, outputs, *factors)
    return (state, outputs), residuals


def _gru_backward(unroll, residuals, gradients):
    (
        inputs,
        done,
        initial_state,
        input_kernel,
        recurrent_kernel,
        outputs,
        to_gates,
        to_candidate,
        z,
    ) = residuals
    state_gradient, output_gradients = gradients
    hidden_dim = initial_state.shape[-1]
    transposed_kernel = recurrent_kernel.T

    def step(carried, at_time):
        output_gradient, done, to_gates, z = at_time
        total = carried + output_gradient
        carried = total * z + _product(
            jnp.tile(total, 3) * to_gates, transposed_kernel, total.dtype
        )
        return _zero_where(done, carried).astype(total.dtype), total

    state_gradient, totals = jax.lax.scan(
        step, state_gradient, (output_gradients, done, to_gates, z), reverse=True, unroll=unroll
    )
    from_state = jnp.tile(totals, 3) * to_gates
    from_input = jnp.concatenate(
        [from_state[..., : 2 * hidden_dim], totals * to_candidate], axis=-1
    )
    return (
        _product(from_input, input_kernel.T, inputs.dtype),
        None,
        state_gradient,
        _weight_gradient(inputs, from_input, input_kernel.dtype),
        from_input.sum((0, 1)).astype(input_kernel.dtype),
        _weight_gradient(
            _states_before(done, initial_state, outputs), from_state, recurrent_kernel.dtype
        ),
        from_state[..., 2 * hidden_dim :].sum((0, 1)).astype(recurrent_kernel.dtype),
    )


_gru.defvjp(_gru_forward, _gru_backward)


@partial(jax.custom_vjp, nondiff_argnums=(6,))
def _lstm(inputs, done, initial_state, input_kernel, recurrent_kernel, bias, unroll):
    def step(state, at_time):
        x, done = at_time
        state, *_ = _lstm_step(state, x, done, input_kernel, recurrent_kernel, bias)
        return state, state[1]

    return jax.lax.scan(step, initial_state, (inputs, done), unroll=unroll)


def _lstm_step(state, x, done, input_kernel, recurrent_kernel, bias):
    c, h = (_zero_where(done, part) for part in state)
    x, recalled = x.astype(input_kernel.dtype), h.astype(recurrent_kernel.dtype)
    pre_activations = x @ input_kernel + recalled @ recurrent_kernel + bias
    i, f, g, o = jnp.split(pre_activations, 4, axis=-1)
    i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
    next_c = (f * c + i * g).astype(c.dtype)
    squashed = jnp.tanh(next_c)
    next_h = (o * squashed).astype(h.dtype)
    # What the gradients of c' and h' are multiplied by on their way to the pre-activations.
    to_cell_gates = jnp.concatenate(
        [g * i * (1 - i), (c * f * (1 - f)).astype(f.dtype), i * (1 - g * g)], axis=-1
    )
    to_output_gate = (squashed * o * (1 - o)).astype(o.dtype)
    to_cell = (o * (1 - squashed * squashed)).astype(c.dtype)
    factors = _as_kept(c.dtype, to_cell_gates, to_output_gate, to_cell, f)
    return (next_c, next_h), *factors


def _lstm_forward(inputs, done, initial_state, input_kernel, recurrent_kernel, bias, unroll):
    def step(state, at_time):
        x, done = at_time
        state, *factors = _lstm_step(state, x, done, input_kernel, recurrent_kernel, bias)
        return state, (state[1], *factors)

    state, (outputs, *factors) = jax.lax.scan(step, initial_state, (inputs, done), unroll=unroll)
    residuals = (inputs, done, initial_state, input_kernel, recurrent_kernel, outputs, *factors)
    return (state, outputs), residuals


def _lstm_backward(unroll, residuals, gradients):
    (
        inputs,
        done,
        initial_state,
        input_kernel,
        recurrent_kernel,
        outputs,
        to_cell_gates,
        to_output_gate,
        to_cell,
        f,
    ) = residuals
    state_gradient, output_gradients = gradients
    transposed_kernel = recurrent_kernel.T

    def gate_gradients(c_total, h_total, to_cell_gates, to_output_gate):
        gradients = [jnp.tile(c_total, 3) * to_cell_gates, h_total * to_output_gate]
        return jnp.concatenate(gradients, axis=-1).astype(recurrent_kernel.dtype)

    def step(carried, at_time):
        output_gradient, done, to_cell_gates, to_output_gate, to_cell, f = at_time
        c_carried, h_carried = carried
        h_total = h_carried + output_gradient
        c_total = c_carried + h_total * to_cell
        pre_activations = gate_gradients(c_total, h_total, to_cell_gates, to_output_gate)
        c_carried = _zero_where(done, c_total * f).astype(c_total.dtype)
        h_carried = _product(pre_activations, transposed_kernel, h_total.dtype)
        h_carried = _zero_where(done, h_carried)
        return (c_carried, h_carried), (c_total, h_total)

    state_gradient, totals = jax.lax.scan(
        step,
        state_gradient,
        (output_gradients, done, to_cell_gates, to_output_gate, to_cell, f),
        reverse=True,
        unroll=unroll,
    )
    pre_activations = gate_gradients(*totals, to_cell_gates, to_output_gate)
    return (
        _product(pre_activations, input_kernel.T, inputs.dtype),
        None,
        state_gradient,
        _weight_gradient(inputs, pre_activations, input_kernel.dtype),
        _weight_gradient(
            _states_before(done, initial_state[1], outputs),
            pre_activations,
            recurrent_kernel.dtype,
        ),
        pre_activations.sum((0, 1)).astype(recurrent_kernel.dtype),
    )


_lstm.defvjp(_lstm_forward, _lstm_backward)
