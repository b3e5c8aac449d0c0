import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax import ops

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


def draw_done():
    done = np.random.default_rng(1).random((BATCH, TIME)) < 0.3
    done[0, 0] = True
    return done


def gru_loop(numpy, inputs, done, h, w, b, u, c):
    """Compute step by step what the docstring says, in numpy or jax.numpy."""
    outputs = []
    for t in range(inputs.shape[1]):
        h = numpy.where(done[:, t, None], 0.0, h)
        x_r, x_z, x_n = numpy.split(inputs[:, t] @ w + b, 3, axis=-1)
        h_r, h_z, h_n = numpy.split(h @ u, 3, axis=-1)
        r = 1 / (1 + numpy.exp(-(x_r + h_r)))
        z = 1 / (1 + numpy.exp(-(x_z + h_z)))
        n = numpy.tanh(x_n + r * (h_n + c))
        h = (1 - z) * n + z * h
        outputs.append(h)
    return h, numpy.stack(outputs, axis=1)


def lstm_loop(numpy, inputs, done, state, w, u, b):
    """Compute step by step what the docstring says, in numpy or jax.numpy."""
    c, h = state
    outputs = []
    for t in range(inputs.shape[1]):
        c, h = (numpy.where(done[:, t, None], 0.0, part) for part in (c, h))
        i, f, g, o = numpy.split(inputs[:, t] @ w + h @ u + b, 4, axis=-1)
        i, f, o = (1 / (1 + numpy.exp(-gate)) for gate in (i, f, o))
        c = f * c + i * numpy.tanh(g)
        h = o * numpy.tanh(c)
        outputs.append(h)
    return (c, h), numpy.stack(outputs, axis=1)


CASES = pytest.mark.parametrize(
    ("op", "loop", "case"),
    [(ops.gru, gru_loop, draw_gru), (ops.lstm, lstm_loop, draw_lstm)],
    ids=["gru", "lstm"],
)


def assert_close(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


@CASES
@pytest.mark.parametrize(("time", "unroll"), [(TIME, 1), (TIME, 4), (1, 1)])
def test_values_are_those_of_a_loop(op, loop, case, time, unroll):
    inputs, state, weights = case()
    inputs, done = inputs[:, :time], draw_done()[:, :time]
    actual = op(*map(jnp.asarray, (inputs, done)), jax.tree.map(jnp.asarray, state),
                *map(jnp.asarray, weights), unroll=unroll)  # fmt: skip
    assert_close(actual, loop(np, inputs, done, state, *weights))


def gradients(run, case):
    inputs, state, weights = jax.tree.map(jnp.asarray, case())
    done = jnp.asarray(draw_done())

    def loss(inputs, state, weights):
        leaves = jax.tree.leaves(run(inputs, done, state, *weights))
        return sum((jnp.cos(jnp.arange(leaf.size).reshape(leaf.shape)) * leaf).sum()
                   for leaf in leaves)  # fmt: skip

    return jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(inputs, state, weights)


@CASES
@pytest.mark.parametrize("unroll", [1, 4])
def test_gradients_are_those_of_a_loop(op, loop, case, unroll):
    actual = gradients(lambda *arguments: op(*arguments, unroll=unroll), case)
    assert_close(actual, gradients(lambda *arguments: loop(jnp, *arguments), case))


@CASES
def test_gradients_of_gradients_are_those_of_a_loop(op, loop, case):
    inputs, state, weights = jax.tree.map(jnp.asarray, case())
    done = jnp.asarray(draw_done())

    def twice(run):
        def slope(inputs):
            loss = lambda inputs: jnp.sin(run(inputs, done, state, *weights)[1]).sum()  # noqa: E731
            return (jax.grad(loss)(inputs) ** 2).sum()

        return jax.jit(jax.grad(slope))(inputs)

    assert_close(twice(op), twice(lambda *arguments: loop(jnp, *arguments)))
