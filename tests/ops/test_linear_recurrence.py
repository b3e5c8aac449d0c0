import importlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax import ops
from tests.ops.loops import assert_close, draw_done, poisoned, weighted_sum, with_gradients

BATCH, TIME, STATE = 3, 13, (4, 2)
IMPLEMENTATIONS = ("auto", "sequential", "associative", "chunked")


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(autouse=True)
def many_states(request, monkeypatch):
    """Let "auto", which is sequential on CPU, compute as it does with many states."""
    if "auto" in request.node.name:
        monkeypatch.setattr(
            importlib.import_module(ops.linear_recurrence.__module__), "FEW_STATES", 0
        )


def draw(is_complex, per_step, input_state=STATE):
    numbers = np.random.default_rng(0)

    def normal(*shape):
        real = numbers.standard_normal(shape)
        return real + 1j * numbers.standard_normal(shape) if is_complex else real

    decay = normal(*((BATCH, TIME) if per_step else ()), *STATE) / 2
    return decay, normal(BATCH, TIME, *input_state), normal(BATCH, *STATE)


def loop(decay, inputs, done, state):
    per_step = decay.ndim > state.ndim

    def step(state, at_time):
        inputs, done, *own_decay = at_time
        state = jnp.where(done[:, None, None], 0, state)
        state = (own_decay[0] if per_step else decay) * state + inputs
        return state, state

    steps = (inputs, done, decay) if per_step else (inputs, done)
    state, states = jax.lax.scan(step, state, [jnp.swapaxes(part, 0, 1) for part in steps])
    return state, jnp.swapaxes(states, 0, 1)


loop_with_gradients = with_gradients(loop, (0, 1, 3))


@partial(jax.jit, static_argnames="run")
def gradients_of_gradients(run, arguments, done):
    def slope(*values):
        def loss(decay, inputs, state):
            return jnp.sin(weighted_sum(run(decay, inputs, done, state)))

        return weighted_sum(jax.grad(loss, argnums=(0, 1, 2))(*values))

    return jax.grad(slope, argnums=(0, 1, 2))(*arguments)


each_kind = pytest.mark.parametrize(
    ("is_complex", "per_step"),
    [(False, False), (False, True), (True, False), (True, True)],
    ids=["real_constant", "real", "complex_constant", "complex"],
)


@each_kind
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("unroll", "chunk_size"), [(1, 4), (3, 20)])
def test_values_and_gradients_are_those_of_a_loop(
    implementation, is_complex, per_step, unroll, chunk_size
):
    decay, inputs, state = draw(is_complex, per_step)
    values = decay, inputs, draw_done(BATCH, TIME), state

    def run(*values):
        return ops.linear_recurrence(*values, implementation, unroll, chunk_size)

    assert_close(with_gradients(run, (0, 1, 3))(*values), loop_with_gradients(*values))


@pytest.mark.exhaustive
@each_kind
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_gradients_of_gradients_are_those_of_a_loop(implementation, is_complex, per_step):
    arguments = jax.tree.map(jnp.asarray, draw(is_complex, per_step))
    done = jnp.asarray(draw_done(BATCH, TIME))

    def run(*values):
        return ops.linear_recurrence(*values, implementation, chunk_size=4)

    twice = gradients_of_gradients
    assert_close(twice(run, arguments, done), twice(loop, arguments, done))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_real_inputs_enter_a_complex_state_and_are_shared_along_an_axis(implementation):
    decay, inputs, state = draw(True, False, (4, 1))
    values = decay, inputs.real, draw_done(BATCH, TIME), state

    def run(*values):
        return ops.linear_recurrence(*values, implementation, chunk_size=4)

    assert_close(with_gradients(run, (0, 1, 3))(*values), loop_with_gradients(*values))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("per_step", [False, True])
def test_a_nan_before_a_reset_leaves_no_trace_after_it(implementation, per_step):
    decay, inputs, state = jax.tree.map(jnp.asarray, draw(False, per_step))
    start = 4
    done = jnp.zeros((BATCH, TIME), bool).at[:, start].set(True)

    @jax.jit
    def run(inputs, state):
        def later(decay, inputs):
            last, states = ops.linear_recurrence(
                decay, inputs, done, state, implementation, chunk_size=3
            )
            return weighted_sum((last, states[:, start:])), states[:, start:]

        (_, values), slopes = jax.value_and_grad(later, argnums=(0, 1), has_aux=True)(decay, inputs)
        return values, slopes[1][:, start:]

    assert_close(run(poisoned(inputs, start), state * np.inf), run(inputs, state))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"decay": jnp.zeros(3)}, r"decay must have shape \(4, 2\) or \(3, 13, 4, 2\), got \(3,\)"),
        ({"inputs": jnp.zeros((3, 0, 4, 2))}, r"at least one step.*got \(3, 0, 4, 2\)"),
        (
            {"inputs": jnp.zeros((3, 13, 3, 2))},
            r"\(3, 13, 3, 2\) do not fit a state of shape \(4, 2",
        ),
        ({"done": jnp.zeros((3, 12), bool)}, r"done must have shape \(3, 13\), got \(3, 12\)"),
        ({"decay": jnp.zeros((4, 2), complex)}, "needs a complex initial_state, got float"),
        ({"implementation": "parallel"}, "unknown implementation 'parallel'"),
        ({"unroll": 0}, "unroll must be an integer of at least 1, got 0"),
        ({"chunk_size": 0}, "chunk_size must be an integer of at least 1, got 0"),
    ],
)
def test_what_does_not_fit_is_refused(changed, words, as_a_user):
    fitting = {
        "decay": jnp.zeros(STATE),
        "inputs": jnp.zeros((BATCH, TIME, *STATE)),
        "done": jnp.zeros((BATCH, TIME), bool),
        "initial_state": jnp.zeros((BATCH, *STATE)),
    }
    with pytest.raises(ValueError, match=words):
        ops.linear_recurrence(**(fitting | changed))
