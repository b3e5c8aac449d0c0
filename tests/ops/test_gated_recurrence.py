from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax import ops
from tests.ops import loops
from tests.ops.loops import draw_done, weighted_sum

BATCH, TIME, FEATURES, HIDDEN = 3, 9, 4, 5


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


def draw(*shapes):
    numbers = np.random.default_rng(0)
    return [numbers.standard_normal(shape) for shape in shapes]


def draw_gru():
    inputs, state, *weights = draw(
        (BATCH, TIME, FEATURES),
        (BATCH, HIDDEN),
        (FEATURES, 3 * HIDDEN),
        (3 * HIDDEN,),
        (HIDDEN, 3 * HIDDEN),
        (HIDDEN,),
    )
    return inputs, state, weights


def draw_lstm():
    inputs, c, h, *weights = draw(
        (BATCH, TIME, FEATURES),
        (BATCH, HIDDEN),
        (BATCH, HIDDEN),
        (FEATURES, 4 * HIDDEN),
        (HIDDEN, 4 * HIDDEN),
        (4 * HIDDEN,),
    )
    return inputs, (c, h), weights


def gru_step(numpy, x, done, h, w, b, u, c):
    """Compute what the docstring says, in numpy or jax.numpy."""
    h = numpy.where(done[:, None], 0.0, h)
    x_r, x_z, x_n = numpy.split(x @ w + b, 3, axis=-1)
    h_r, h_z, h_n = numpy.split(h @ u, 3, axis=-1)
    r = 1 / (1 + numpy.exp(-(x_r + h_r)))
    z = 1 / (1 + numpy.exp(-(x_z + h_z)))
    n = numpy.tanh(x_n + r * (h_n + c))
    h = (1 - z) * n + z * h
    return h, h


def lstm_step(numpy, x, done, state, w, u, b):
    """Compute what the docstring says, in numpy or jax.numpy."""
    c, h = (numpy.where(done[:, None], 0.0, part) for part in state)
    i, f, g, o = numpy.split(x @ w + h @ u + b, 4, axis=-1)
    i, f, o = (1 / (1 + numpy.exp(-gate)) for gate in (i, f, o))
    c = f * c + i * numpy.tanh(g)
    h = o * numpy.tanh(c)
    return (c, h), h


def in_numpy(step):
    def run(inputs, done, state, *weights):
        outputs = []
        for t in range(inputs.shape[1]):
            state, output = step(np, inputs[:, t], done[:, t], state, *weights)
            outputs.append(output)
        return state, np.stack(outputs, axis=1)

    return run


@cache
def in_jax(step):
    def run(inputs, done, state, *weights):
        time_major = jnp.swapaxes(inputs, 0, 1), jnp.swapaxes(done, 0, 1)
        state, outputs = jax.lax.scan(
            lambda state, at_time: step(jnp, *at_time, state, *weights), state, time_major
        )
        return state, jnp.swapaxes(outputs, 0, 1)

    return run


assert_close = partial(loops.assert_close, atol=1e-12)

each_op_and_step = pytest.mark.parametrize(
    ("op", "step", "case"),
    [(ops.gru, gru_step, draw_gru), (ops.lstm, lstm_step, draw_lstm)],
    ids=["gru", "lstm"],
)
each_op = pytest.mark.parametrize(
    ("op", "case"), [(ops.gru, draw_gru), (ops.lstm, draw_lstm)], ids=["gru", "lstm"]
)


@cache
def gradients(run):
    def loss(inputs, done, state, weights):
        return weighted_sum(run(inputs, done, state, *weights))

    return jax.jit(jax.grad(loss, argnums=(0, 2, 3)))


@each_op_and_step
@pytest.mark.parametrize(("time", "unroll"), [(TIME, 1), (TIME, 4), (1, 1), (1, 4)])
def test_values_are_those_of_a_loop(op, step, case, time, unroll):
    inputs, state, weights = case()
    inputs, done = inputs[:, :time], draw_done(BATCH, time)
    actual = op(*jax.tree.map(jnp.asarray, (inputs, done, state, *weights)), unroll=unroll)
    assert_close(actual, in_numpy(step)(inputs, done, state, *weights))


@each_op_and_step
@pytest.mark.parametrize(("time", "unroll"), [(TIME, 1), (TIME, 4), (1, 1)])
def test_gradients_are_those_of_a_loop(op, step, case, time, unroll):
    inputs, state, weights = case()
    arguments = inputs[:, :time], draw_done(BATCH, time), state, weights
    actual = gradients(partial(op, unroll=unroll))(*arguments)
    assert_close(actual, gradients(in_jax(step))(*arguments))


@each_op_and_step
def test_gradients_of_gradients_are_those_of_a_loop(op, step, case):
    arguments = jax.tree.map(jnp.asarray, case())
    done = jnp.asarray(draw_done(BATCH, TIME))

    def twice(run):
        def slope(*arguments):
            def loss(inputs, state, weights):
                return jnp.sin(weighted_sum(run(inputs, done, state, *weights)))

            return weighted_sum(jax.grad(loss, argnums=(0, 1, 2))(*arguments))

        return jax.jit(jax.grad(slope, argnums=(0, 1, 2)))(*arguments)

    assert_close(twice(op), twice(in_jax(step)))


@each_op
def test_a_nan_before_a_reset_leaves_no_trace_after_it(op, case):
    inputs, state, weights = jax.tree.map(jnp.asarray, case())
    start = 4
    done = jnp.zeros((BATCH, TIME), bool).at[:, start].set(True)

    @jax.jit
    def run_with_gradients(inputs, state):
        def later(inputs, state):
            last, outputs = op(inputs, done, state, *weights)
            return weighted_sum((last, outputs[:, start:])), (last, outputs[:, start:])

        (_, values), slopes = jax.value_and_grad(later, argnums=(0, 1), has_aux=True)(inputs, state)
        return values, slopes

    values, (to_inputs, to_state) = run_with_gradients(inputs, state)
    for leaf in jax.tree.leaves((to_inputs[:, :start], to_state)):
        np.testing.assert_array_equal(leaf, 0)
    poisoned_values, (poisoned_to_inputs, _) = run_with_gradients(
        inputs.at[:, :start].set(jnp.nan), jax.tree.map(lambda leaf: leaf * jnp.nan, state)
    )
    assert_close(poisoned_values, values)
    assert_close(poisoned_to_inputs[:, start:], to_inputs[:, start:])


@each_op
def test_a_nan_in_a_state_that_is_never_read_spoils_no_gradient(op, case):
    inputs, state, weights = case()
    done = draw_done(BATCH, TIME)
    done[:, 0] = True
    poisoned = jax.tree.map(lambda leaf: leaf * np.nan, state)
    expected = gradients(op)(inputs, done, state, weights)
    assert_close(gradients(op)(inputs, done, poisoned, weights), expected)
