import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax import ops
from tests.ops.loops import assert_close, draw_done, poisoned, weighted_sum, with_gradients

BATCH, TIME, CHANNELS = 3, 9, 2


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def draw(width):
    numbers = np.random.default_rng(0)
    shapes = (BATCH, TIME, CHANNELS), (width, CHANNELS), (BATCH, width - 1, CHANNELS)
    return [numbers.standard_normal(shape) for shape in shapes]


def loop(inputs, kernel, done, window):
    def step(window, at_time):
        inputs, done = at_time
        window = jnp.where(done[:, None, None], 0, window)
        seen = jnp.concatenate([window, inputs[:, None]], axis=1)
        return seen[:, 1:], (kernel * seen).sum(1)

    time_major = jnp.swapaxes(inputs, 0, 1), jnp.swapaxes(done, 0, 1)
    window, outputs = jax.lax.scan(step, window, time_major)
    return window, jnp.swapaxes(outputs, 0, 1)


@pytest.mark.parametrize("width", [1, 2, 4, 12])
@pytest.mark.parametrize("time", [1, TIME])
def test_values_and_gradients_are_those_of_a_loop(width, time):
    inputs, kernel, window = draw(width)
    case = inputs[:, :time], kernel, draw_done(BATCH, time), window
    actual, expected = (with_gradients(run, (0, 1, 3))(*case) for run in (ops.causal_conv1d, loop))
    assert_close(actual, expected)


def test_a_nan_before_a_reset_leaves_no_trace_after_it():
    inputs, kernel, window = map(jnp.asarray, draw(4))
    start = 4
    done = jnp.zeros((BATCH, TIME), bool).at[:, start].set(True)

    @jax.jit
    def after(inputs, window):
        def later(inputs):
            _, outputs = ops.causal_conv1d(inputs, kernel, done, window)
            return weighted_sum(outputs[:, start:]), outputs[:, start:]

        (_, outputs), slope = jax.value_and_grad(later, has_aux=True)(inputs)
        return outputs, slope[:, start:]

    assert_close(after(poisoned(inputs, start), window * np.nan), after(inputs, window))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"kernel": jnp.zeros((4, 3))}, r"kernel must be .* \(width, 2\), got \(4, 3\)"),
        ({"window": jnp.zeros((3, 4, 2))}, r"window must have shape \(3, 3, 2\), got \(3, 4, 2\)"),
        ({"done": jnp.zeros((3, 8), bool)}, r"done must have shape \(3, 9\), got \(3, 8\)"),
    ],
)
def test_what_does_not_fit_is_refused(changed, words, as_a_user):
    inputs, kernel, window = map(jnp.asarray, draw(4))
    done = jnp.zeros((BATCH, TIME), bool)
    fitting = {"inputs": inputs, "kernel": kernel, "done": done, "window": window}
    with pytest.raises(ValueError, match=words):
        ops.causal_conv1d(**(fitting | changed))
