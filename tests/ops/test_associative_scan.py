import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax import ops
from tests.ops.loops import assert_close, draw_done, poisoned, weighted_sum, with_gradients

BATCH, TIME = 3, 13


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def multiply(earlier, later):
    """Multiply matrices, which is associative and not commutative, and count."""
    return {"product": earlier["product"] @ later["product"], "n": earlier["n"] + later["n"]}


def draw():
    numbers = np.random.default_rng(0)
    elements = {
        "product": numbers.standard_normal((BATCH, TIME, 2, 2)),
        "n": np.ones((BATCH, TIME)),
    }
    initial = {"product": numbers.standard_normal((BATCH, 2, 2)), "n": np.ones(BATCH)}
    return elements, initial


def loop(elements, done, state):
    def step(state, at_time):
        element, done = at_time
        state = jax.tree.map(
            lambda one, other: jnp.where(done.reshape(-1, *[1] * (one.ndim - 1)), one, other),
            element,
            multiply(state, element),
        )
        return state, state

    time_major = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), (elements, done))
    state, states = jax.lax.scan(step, state, time_major)
    return state, jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), states)


def test_values_and_gradients_are_those_of_a_loop():
    elements, initial = draw()
    case = elements, draw_done(BATCH, TIME), initial

    def run(elements, done, initial):
        return ops.associative_scan(multiply, elements, done, initial)

    assert_close(with_gradients(run, (0, 2))(*case), with_gradients(loop, (0, 2))(*case))


def test_a_nan_before_a_reset_leaves_no_trace_after_it():
    elements, initial = draw()
    start = 4
    done = jnp.zeros((BATCH, TIME), bool).at[:, start].set(True)

    @jax.jit
    def after(elements, initial):
        def later(elements):
            _, states = ops.associative_scan(multiply, elements, done, initial)
            states = jax.tree.map(lambda leaf: leaf[:, start:], states)
            return weighted_sum(states), states

        (_, states), slopes = jax.value_and_grad(later, has_aux=True)(elements)
        return states, jax.tree.map(lambda leaf: leaf[:, start:], slopes)

    poisoned_initial = jax.tree.map(lambda leaf: leaf * np.nan, initial)
    assert_close(after(poisoned(elements, start), poisoned_initial), after(elements, initial))


@pytest.mark.parametrize(
    ("elements", "initial", "words"),
    [
        ({"a": jnp.ones((3, 13))}, (jnp.ones(3),), "initial must have the structure"),
        (jnp.ones((3, 12)), jnp.ones(3), r"step \(batch, time\) of done, \(3, 13\), got \(3, 12\)"),
        (jnp.ones((3, 13, 2)), jnp.ones(3), r"initial must have shape \(3, 2\), got \(3,\)"),
    ],
)
def test_what_does_not_fit_is_refused(elements, initial, words):
    with pytest.raises(ValueError, match=words):
        ops.associative_scan(jnp.add, elements, jnp.zeros((BATCH, TIME), bool), initial)
