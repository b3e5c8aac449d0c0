import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax import ops
from tests.golden.cases import load
from tests.ops.loops import assert_close, draw_done, poisoned, with_gradients

BATCH, TIME, GROUPS, HEADS, KEY_DIM, VALUE_DIM = 3, 13, 2, 4, 3, 5
WAYS = [("sequential", 1), ("associative", 1), ("chunked", 1), ("chunked", 5), ("chunked", 64)]
each_way = pytest.mark.parametrize(("implementation", "chunk_size"), WAYS)
each_kind = pytest.mark.parametrize(
    ("decays", "gated"),
    [(False, False), (True, False), (False, True), (True, True)],
    ids=["sum", "decay", "gate", "decay_and_gate"],
)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def draw(decays, gated):
    numbers = np.random.default_rng(0)

    def normal(*shape):
        return numbers.standard_normal(shape)

    steps = BATCH, TIME
    state = normal(BATCH, HEADS, KEY_DIM, VALUE_DIM)
    return (
        normal(*steps, GROUPS, KEY_DIM),
        normal(*steps, GROUPS, KEY_DIM),
        normal(*steps, HEADS, VALUE_DIM),
        -np.abs(normal(*steps, HEADS)) if decays else None,
        3 * normal(*steps, HEADS) if gated else None,
        (state, normal(BATCH, HEADS)) if gated else state,
    )


@jax.jit
def loop(query, key, value, log_decay, log_input_gate, state, done):
    """Add up as the docstring says, without any stabiliser, then divide by its exponential."""
    gated = log_input_gate is not None
    state, m = state if gated else (state, jnp.zeros(state.shape[:2]))
    m = jax.lax.stop_gradient(m)
    state = state * jnp.exp(m)[..., None, None]
    repeats = value.shape[2] // query.shape[2]

    def step(carry, at_time):
        state, m = carry
        query, key, value, decay, gate, done = at_time
        state = jnp.where(done[:, None, None, None], 0, state)
        if gated:
            kept = jnp.where(done[:, None], 0, m) + decay
            m = jax.lax.stop_gradient(jnp.maximum(kept, gate))
        key, query = (jnp.repeat(part, repeats, axis=1) for part in (key, query))
        entry = jnp.exp(gate)[..., None, None] * key[..., :, None] * value[:, :, None, :]
        state = jnp.exp(decay)[..., None, None] * state + entry
        read = jnp.einsum("bhk,bhkv->bhv", query, state)
        return (state, m), (read * jnp.exp(-m)[..., None], m)

    nothing = jnp.zeros(value.shape[:3])
    log_decay = nothing if log_decay is None else log_decay
    log_input_gate = log_input_gate if gated else nothing
    steps = query, key, value, log_decay, log_input_gate, done
    steps = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), steps)
    (state, m), results = jax.lax.scan(step, (state, m), steps)
    outputs, ms = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), results)
    state = state * jnp.exp(-m)[..., None, None]
    return ((state, m), (outputs, ms)) if gated else (state, outputs)


@functools.cache
def compiled(implementation, chunk_size):
    """Return the op, compiled once for all tests that give it the same shapes."""
    return jax.jit(
        lambda *arguments: ops.gated_outer_product(*arguments, implementation, chunk_size)
    )


@functools.cache
def compiled_with_gradients(implementation, chunk_size):
    def run(query, key, value, log_decay, log_input_gate, state, done):
        return ops.gated_outer_product(
            query, key, value, log_decay, log_input_gate, done, state, implementation, chunk_size
        )

    return counted_with_gradients(run)


def counted_with_gradients(run):
    """Compile a function of ``(arguments, done, counted)``, of whose steps only some count."""

    def counted_only(arguments, done, counted):
        last, results = run(*arguments, done)
        # Not a product with zero: what does not count may be NaN.
        return last, jax.tree.map(
            lambda leaf: jnp.where(counted.reshape(-1, *[1] * (leaf.ndim - 2)), leaf, 0), results
        )

    return with_gradients(counted_only, argnums=0)


loop_with_gradients = counted_with_gradients(loop)


@each_kind
@each_way
def test_values_and_gradients_are_those_of_a_loop(implementation, chunk_size, decays, gated):
    case = draw(decays, gated), draw_done(BATCH, TIME), np.ones(TIME, bool)
    run = compiled_with_gradients(implementation, chunk_size)
    assert_close(run(*case), loop_with_gradients(*case))


@each_kind
@pytest.mark.parametrize(("implementation", "chunk_size"), WAYS[1:])
def test_fast_forms_agree_with_the_definition(implementation, chunk_size, decays, gated):
    case = draw(decays, gated), draw_done(BATCH, TIME), np.ones(TIME, bool)
    definition = compiled_with_gradients("sequential", 1)
    assert_close(compiled_with_gradients(implementation, chunk_size)(*case), definition(*case))


@each_kind
@each_way
def test_a_nan_before_a_reset_leaves_no_trace_after_it(implementation, chunk_size, decays, gated):
    *steps, state = draw(decays, gated)
    start = 4
    done = np.zeros((BATCH, TIME), bool)
    done[:, start] = True

    def after(*arguments):
        run = compiled_with_gradients(implementation, chunk_size)
        values, (slopes, values_again) = run(arguments, done, np.arange(TIME) >= start)
        to_steps = jax.tree.map(lambda leaf: np.asarray(leaf)[:, start:], slopes[:5])
        return values, values_again, to_steps

    expected = after(*steps, state)
    for poison in (np.nan, np.inf):
        poisoned_state = jax.tree.map(lambda leaf: leaf * poison, state)  # noqa: B023
        assert_close(after(*poisoned(steps, start, poison), poisoned_state), expected)


@each_way
@pytest.mark.parametrize("entered", [0, 1, 2, 3, 4], ids=["query", "key", "value", "decay", "gate"])
def test_a_nan_is_not_hidden_from_its_own_episode(implementation, chunk_size, entered):
    *steps, state = draw(True, True)
    start, end = 3, 8
    done = np.zeros((BATCH, TIME), bool)
    done[:, end] = True
    steps[entered][1, start] = np.nan
    run = compiled_with_gradients(implementation, chunk_size)
    (_, (outputs, _)), _ = run((*steps, state), done, np.ones(TIME, bool))
    outputs = np.asarray(outputs)
    # A query is read once; what is written stays until the episode ends.
    until = start + 1 if entered == 0 else end
    assert np.isnan(outputs[1, start:until]).all()
    assert np.isfinite(np.delete(outputs[1], np.s_[start:until], axis=0)).all()
    assert np.isfinite(outputs[0]).all()


@each_way
def test_weak_decays_are_exact_after_a_strong_one(implementation, chunk_size):
    query, key, value, log_decay, _, state = (
        None if part is None else part.astype(np.float32) for part in draw(True, False)
    )
    done = np.zeros((BATCH, TIME), bool)
    log_decay *= 1e-3
    log_decay[:, 2] = -3e4
    run = compiled(implementation, chunk_size)
    _, outputs = run(query, key, value, log_decay, None, done, state)
    wide = (part.astype(np.float64) for part in (query, key, value, log_decay))
    _, expected = loop(*wide, None, state.astype(np.float64), done)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-6 * scale)


@each_way
@pytest.mark.parametrize("begun", [False, True], ids=["fresh", "from_a_state"])
def test_mlstm_keeps_its_digits_under_large_gates(implementation, chunk_size, begun):
    case = load("mlstm")
    q, k, v, i, f = (case[f"core_{name}"].swapaxes(1, 2) for name in ("q", "k", "v", "i", "f"))
    k = k / k.shape[-1] ** 0.5
    v = np.concatenate([v, np.ones_like(v[..., :1])], axis=-1)
    state = np.zeros((*v.shape[:1], v.shape[2], k.shape[-1], v.shape[-1]))
    # The oracle's stabiliser begins at minus infinity here, which shows through the 1e-6.
    m = np.full(state.shape[:2], -1e30)
    if begun:
        state = np.concatenate([case["core_C0"], case["core_n0"][..., None]], -1)
        m = case["core_m0"]
    done = np.zeros(v.shape[:2], bool)
    run = compiled(implementation, chunk_size)
    log_decay = -np.logaddexp(0, -f)
    (state, m), (read, ms) = jax.device_get(run(q, k, v, log_decay, i, done, (state, m)))
    normaliser = np.maximum(np.abs(read[..., -1:]), np.exp(-ms)[..., None]) + 1e-6
    h = case["core_h_init" if begun else "core_h_fresh"].swapaxes(1, 2)
    scale = np.abs(h).max()
    np.testing.assert_allclose(read[..., :-1] / normaliser, h, rtol=0, atol=1e-9 * scale)
    if begun:
        end = np.concatenate([case["core_C_T"], case["core_n_T"][..., None]], axis=-1)
        # The stabiliser is not unique: states are compared in the oracle's units.
        ratio = np.exp(m - case["core_m_T"])[..., None, None]
        np.testing.assert_allclose(state * ratio, end, rtol=1e-9, atol=1e-9 * np.abs(end).max())


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"key": jnp.zeros((3, 12, 2, 3))}, r"must lead with the shape of done, \(3, 13\), got"),
        ({"value": jnp.zeros((3, 13, 3, 5))}, "divisible by groups, got 3 heads and 2 groups"),
        ({"log_decay": jnp.zeros((3, 13, 2))}, r"log_decay must have shape \(3, 13, 4\), got"),
        ({"log_input_gate": jnp.zeros((3, 13, 2))}, r"log_input_gate must have shape"),
        ({"initial_state": jnp.zeros((3, 4, 5, 3))}, r"initial_state must be \(3, 4, 3, 5\), got"),
        ({"log_input_gate": jnp.zeros((3, 13, 4))}, r"initial_state must be \(\(3, 4, 3, 5\), \("),
        ({"implementation": "parallel"}, "unknown implementation 'parallel'"),
        ({"chunk_size": 0}, "chunk_size must be an integer of at least 1, got 0"),
    ],
)
def test_what_does_not_fit_is_refused(changed, words, as_a_user):
    query, key, value, log_decay, log_input_gate, state = draw(True, False)
    fitting = {
        "query": query,
        "key": key,
        "value": value,
        "log_decay": log_decay,
        "log_input_gate": log_input_gate,
        "done": jnp.zeros((BATCH, TIME), bool),
        "initial_state": state,
    }
    with pytest.raises(ValueError, match=words):
        ops.gated_outer_product(**(fitting | changed))
