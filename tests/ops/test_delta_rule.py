import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax import ops
from tests.ops.loops import assert_close, draw_done, poisoned, with_gradients

BATCH, TIME, GROUPS, HEADS, KEY_DIM, VALUE_DIM = 3, 13, 2, 4, 3, 5
each_way = pytest.mark.parametrize(
    ("implementation", "chunk_size"), [("sequential", 5), ("chunked", 5), ("chunked", 64)]
)


class Kind(NamedTuple):
    """A function of ops, and the inputs that it is given after query, key and value."""

    op: Any
    groups: int
    extra: tuple[str, ...]
    decay: tuple[int, ...] | None


KINDS = {
    "delta": Kind(ops.delta_rule, GROUPS, ("beta",), None),
    "delta_decay": Kind(ops.delta_rule, GROUPS, ("beta",), ()),
    "delta_channel_decay": Kind(ops.delta_rule, GROUPS, ("beta",), (KEY_DIM,)),
    "gated_linear_attention": Kind(ops.gated_linear_attention, GROUPS, (), (KEY_DIM,)),
    "generalized": Kind(
        ops.generalized_delta_rule, HEADS, ("erase_key", "erase_write"), (KEY_DIM,)
    ),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def draw(kind):
    """Return query, key, value, what else the kind takes, log_decay and a state."""
    kind, numbers = KINDS[kind], np.random.default_rng(0)

    def normal(*shape):
        return numbers.standard_normal((BATCH, TIME, *shape))

    extra = {
        "beta": 2 / (1 + np.exp(-normal(HEADS))),
        "erase_key": normal(HEADS, KEY_DIM),
        "erase_write": normal(HEADS, KEY_DIM),
    }
    return (
        normal(kind.groups, KEY_DIM),
        normal(kind.groups, KEY_DIM),
        normal(HEADS, VALUE_DIM),
        *(extra[name] for name in kind.extra),
        None if kind.decay is None else -np.abs(normal(HEADS, *kind.decay)),
        numbers.standard_normal((BATCH, HEADS, KEY_DIM, VALUE_DIM)),
    )


def loop(kind, query, key, value, *rest):
    """Follow the docstrings, head by head, with matrices written out."""
    *extra, log_decay, state, done = rest
    repeats = HEADS // query.shape[2]
    query, key = (jnp.repeat(part, repeats, axis=2) for part in (query, key))
    if log_decay is None:
        log_decay = jnp.zeros((BATCH, TIME, HEADS))
    log_decay = jnp.broadcast_to(
        log_decay.reshape(BATCH, TIME, HEADS, -1), (BATCH, TIME, HEADS, KEY_DIM)
    )

    def head(state, at_time):
        q, k, v, g, done, *extra = at_time
        state = jnp.where(done, 0, state)
        state = jnp.diag(jnp.exp(g)) @ state
        if kind == "gated_linear_attention":
            state = state + jnp.outer(k, v)
        elif kind == "generalized":
            erase_key, erase_write = extra
            state = state - jnp.outer(erase_write, state.T @ erase_key) + jnp.outer(k, v)
        else:
            (beta,) = extra
            state = state + jnp.outer(k, beta * (v - state.T @ k))
        return state, state.T @ q

    over_heads = jax.vmap(head, in_axes=(0, (0, 0, 0, 0, None, *(0 for _ in extra))))
    over_rows = jax.vmap(over_heads)
    steps = (query, key, value, log_decay, done, *extra)
    steps = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), steps)
    state, outputs = jax.lax.scan(over_rows, state, steps)
    return state, jnp.swapaxes(outputs, 0, 1)


@functools.cache
def compiled_with_gradients(kind, implementation, chunk_size):
    """Compile the op, or the loop for ``None``; only counted steps enter the gradients."""

    def run(arguments, done, counted):
        if implementation is None:
            state, outputs = loop(kind, *arguments, done)
        else:
            *steps, state = arguments
            state, outputs = KINDS[kind].op(*steps, done, state, implementation, chunk_size)
        # Not a product with zero: what does not count may be NaN.
        return state, jnp.where(counted[:, None, None], outputs, 0)

    return with_gradients(run, argnums=0)


@each_kind
@each_way
def test_values_and_gradients_are_those_of_a_loop(implementation, chunk_size, kind):
    case = draw(kind), draw_done(BATCH, TIME), np.ones(TIME, bool)
    expected = compiled_with_gradients(kind, None, None)(*case)
    assert_close(compiled_with_gradients(kind, implementation, chunk_size)(*case), expected)


@each_kind
def test_chunks_agree_with_the_definition(kind):
    case = draw(kind), draw_done(BATCH, TIME), np.ones(TIME, bool)
    definition = compiled_with_gradients(kind, "sequential", 5)(*case)
    assert_close(compiled_with_gradients(kind, "chunked", 5)(*case), definition)


@each_kind
@each_way
def test_a_nan_before_a_reset_leaves_no_trace_after_it(implementation, chunk_size, kind):
    *steps, state = draw(kind)
    start = 4
    done = np.zeros((BATCH, TIME), bool)
    done[:, start] = True

    def after(*arguments):
        run = compiled_with_gradients(kind, implementation, chunk_size)
        values, (slopes, values_again) = run(arguments, done, np.arange(TIME) >= start)
        to_steps = jax.tree.map(lambda leaf: np.asarray(leaf)[:, start:], slopes[:-1])
        return values, values_again, to_steps

    expected = after(*steps, state)
    for poison in (np.nan, np.inf):
        assert_close(after(*poisoned(steps, start, poison), state * poison), expected)


@each_way
@pytest.mark.parametrize("entered", range(5), ids=["query", "key", "value", "beta", "decay"])
def test_a_nan_is_not_hidden_from_its_own_episode(implementation, chunk_size, entered):
    *steps, state = draw("delta_decay")
    start, end = 3, 8
    done = np.zeros((BATCH, TIME), bool)
    done[:, end] = True
    steps[entered][1, start] = np.nan
    run = compiled_with_gradients("delta_decay", implementation, chunk_size)
    (_, outputs), _ = run((*steps, state), done, np.ones(TIME, bool))
    outputs = np.asarray(outputs)
    # A query is read once; what is written stays until the episode ends.
    until = start + 1 if entered == 0 else end
    assert np.isnan(outputs[1, start:until]).all()
    assert np.isfinite(np.delete(outputs[1], np.s_[start:until], axis=0)).all()
    assert np.isfinite(outputs[0]).all()


def assert_exact_in_float32(kind, arguments, implementation, chunk_size, atol):
    """Compare with the loop in float64, relative to the largest output."""
    done = np.zeros((BATCH, TIME), bool)
    *steps, state = jax.tree.map(lambda part: part.astype(np.float32), arguments)
    run = jax.jit(
        functools.partial(KINDS[kind].op, implementation=implementation, chunk_size=chunk_size)
    )
    _, outputs = run(*steps, done, state)
    assert outputs.dtype == np.float32
    _, expected = loop(kind, *arguments, done)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=atol * scale)


@pytest.mark.parametrize("kind", ["delta_decay", "delta_channel_decay"])
@each_way
def test_weak_decays_are_exact_after_a_strong_one(implementation, chunk_size, kind):
    query, key, value, beta, log_decay, state = draw(kind)
    key /= 2 * np.linalg.norm(key, axis=-1, keepdims=True)
    log_decay *= 1e-3
    log_decay[:, 2] = -3e4
    arguments = query, key, value, beta, log_decay, state
    assert_exact_in_float32(kind, arguments, implementation, chunk_size, atol=1e-6)


@each_way
def test_nearly_equal_keys_keep_their_digits(implementation, chunk_size):
    # Powers of the system's matrix grow to thousands here, its inverse does not.
    query, key, value, beta, log_decay, state = draw("delta")
    key = 1 + 1e-3 * key
    key /= np.linalg.norm(key, axis=-1, keepdims=True)
    arguments = query, key, value, np.full_like(beta, 1.9), log_decay, state
    assert_exact_in_float32("delta", arguments, implementation, chunk_size, atol=1e-5)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"key": jnp.zeros((3, 12, 2, 3))}, r"must lead with the shape of done, \(3, 13\), got"),
        ({"value": jnp.zeros((3, 13, 3, 5))}, "divisible by groups, got 3 heads and 2 groups"),
        ({"beta": jnp.zeros((3, 13, 2))}, r"beta must have shape \(3, 13, 4\), got"),
        ({"log_decay": jnp.zeros((3, 13, 2))}, r"log_decay must have shape \(3, 13, 4\) or"),
        ({"initial_state": jnp.zeros((3, 4, 5, 3))}, r"initial_state must have shape \(3, 4, 3, 5"),
        ({"implementation": "associative"}, "unknown implementation 'associative'"),
        ({"chunk_size": 0}, "chunk_size must be an integer of at least 1, got 0"),
    ],
)
def test_what_does_not_fit_is_refused(changed, words, as_a_user):
    query, key, value, beta, log_decay, state = draw("delta_decay")
    fitting = {
        "query": query,
        "key": key,
        "value": value,
        "beta": beta,
        "log_decay": log_decay,
        "done": jnp.zeros((BATCH, TIME), bool),
        "initial_state": state,
    }
    with pytest.raises(ValueError, match=words):
        ops.delta_rule(**(fitting | changed))
