import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax import ops
from tests.ops.loops import assert_close, draw_done, weighted_sum

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
        "product": jnp.asarray(numbers.standard_normal((BATCH, TIME, 2, 2))),
        "n": jnp.ones((BATCH, TIME)),
    }
    initial = {"product": jnp.asarray(numbers.standard_normal((BATCH, 2, 2))), "n": jnp.ones(BATCH)}
    return elements, initial


def loop(elements, done, state):
    states = []
    for t in range(TIME):
        element = jax.tree.map(lambda leaf: leaf[:, t], elements)  # noqa: B023
        combined = multiply(state, element)
        state = jax.tree.map(
            lambda one, other: jnp.where(
                done[:, t].reshape(-1, *[1] * (one.ndim - 1)),  # noqa: B023
                one,
                other,
            ),
            element,
            combined,
        )
        states.append(state)
    return state, jax.tree.map(lambda *leaves: jnp.stack(leaves, axis=1), *states)


def test_values_and_gradients_are_those_of_a_loop():
    elements, initial = draw()
    done = jnp.asarray(draw_done(BATCH, TIME))

    def run(elements, initial):
        return ops.associative_scan(multiply, elements, done, initial)

    def gradients(run):
        gradient = jax.grad(lambda *values: weighted_sum(run(*values)), argnums=(0, 1))
        return jax.jit(gradient)(elements, initial)

    assert_close(run(elements, initial), loop(elements, done, initial))
    expected = gradients(lambda elements, initial: loop(elements, done, initial))
    assert_close(gradients(run), expected)


def test_a_nan_before_a_reset_leaves_no_trace_after_it():
    elements, initial = draw()
    start = 4
    done = jnp.zeros((BATCH, TIME), bool).at[:, start].set(True)

    def after(elements, initial):
        def later(elements):
            _, states = ops.associative_scan(multiply, elements, done, initial)
            states = jax.tree.map(lambda leaf: leaf[:, start:], states)
            return weighted_sum(states), states

        (_, states), slopes = jax.value_and_grad(later, has_aux=True)(elements)
        return states, jax.tree.map(lambda leaf: leaf[:, start:], slopes)

    poisoned = jax.tree.map(lambda leaf: leaf.at[:, :start].set(jnp.nan), elements)
    poisoned_initial = jax.tree.map(lambda leaf: leaf * jnp.nan, initial)
    assert_close(after(poisoned, poisoned_initial), after(elements, initial))


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
