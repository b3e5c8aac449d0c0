import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax import ops
from tests.ops.loops import assert_close, draw_done, weighted_sum

BATCH, TIME, CHANNELS = 3, 9, 2


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def draw(width):
    numbers = np.random.default_rng(0)
    shapes = (BATCH, TIME, CHANNELS), (width, CHANNELS), (BATCH, width - 1, CHANNELS)
    return [jnp.asarray(numbers.standard_normal(shape)) for shape in shapes]


def loop(inputs, kernel, done, window):
    outputs = []
    for t in range(inputs.shape[1]):
        window = jnp.where(done[:, t, None, None], 0, window)
        seen = jnp.concatenate([window, inputs[:, t : t + 1]], axis=1)
        outputs.append((kernel * seen).sum(1))
        window = seen[:, 1:]
    return window, jnp.stack(outputs, axis=1)


@pytest.mark.parametrize("width", [1, 2, 4, 12])
@pytest.mark.parametrize("time", [1, TIME])
def test_values_and_gradients_are_those_of_a_loop(width, time):
    inputs, kernel, window = draw(width)
    arguments = inputs[:, :time], kernel, window
    done = jnp.asarray(draw_done(BATCH, time))

    def with_done(run):
        return lambda inputs, kernel, window: run(inputs, kernel, done, window)

    def gradients(run):
        loss = jax.grad(lambda *values: weighted_sum(run(*values)), argnums=(0, 1, 2))
        return jax.jit(loss)(*arguments)

    run, expected = with_done(ops.causal_conv1d), jax.jit(with_done(loop))
    assert_close(run(*arguments), expected(*arguments))
    assert_close(gradients(run), gradients(expected))


def test_a_nan_before_a_reset_leaves_no_trace_after_it():
    inputs, kernel, window = draw(4)
    start = 4
    done = jnp.zeros((BATCH, TIME), bool).at[:, start].set(True)

    def after(inputs, window):
        def later(inputs):
            _, outputs = ops.causal_conv1d(inputs, kernel, done, window)
            return weighted_sum(outputs[:, start:]), outputs[:, start:]

        (_, outputs), slope = jax.value_and_grad(later, has_aux=True)(inputs)
        return outputs, slope[:, start:]

    poisoned = inputs.at[:, :start].set(jnp.nan), window * jnp.nan
    assert_close(after(*poisoned), after(inputs, window))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"kernel": jnp.zeros((4, 3))}, r"kernel must be .* \(width, 2\), got \(4, 3\)"),
        ({"window": jnp.zeros((3, 4, 2))}, r"window must have shape \(3, 3, 2\), got \(3, 4, 2\)"),
        ({"done": jnp.zeros((3, 8), bool)}, r"done must have shape \(3, 9\), got \(3, 8\)"),
    ],
)
def test_what_does_not_fit_is_refused(changed, words, as_a_user):
    inputs, kernel, window = draw(4)
    done = jnp.zeros((BATCH, TIME), bool)
    fitting = {"inputs": inputs, "kernel": kernel, "done": done, "window": window}
    with pytest.raises(ValueError, match=words):
        ops.causal_conv1d(**(fitting | changed))
