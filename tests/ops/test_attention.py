from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax import ops
from memorax.ops import Positions
from tests.ops.loops import assert_close, draw_done, weighted_sum, with_gradients

BATCH, HEADS, KEY_HEADS, HEAD_DIM, CONTEXT, MEMORY, TIME = 2, 4, 2, 6, 4, 3, 11


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def draw(time=TIME):
    """Return query, key, value and the memory's keys and values."""
    numbers = np.random.default_rng(0)
    keys = (BATCH, KEY_HEADS, CONTEXT - 1 + time, HEAD_DIM)
    old = (BATCH, KEY_HEADS, MEMORY - 1 + time, HEAD_DIM)
    shapes = (BATCH, HEADS, time, HEAD_DIM), keys, keys, old, old
    query, key, value, *memory = (numbers.standard_normal(shape) for shape in shapes)
    return query, key, value, tuple(memory)


episode_age = jax.jit(ops.episode_age, static_argnums=2)


def draw_age(time=TIME, limit=CONTEXT + MEMORY - 1):
    return episode_age(draw_done(BATCH, time), np.array([2, 30]), limit)


def loop(query, key, value, age, context_length, positions, memory=None):
    """Collect what each query sees, one distance after another, and attend to it."""
    time = query.shape[2]
    window = context_length + (0 if memory is None else memory[0].shape[2] + 1 - time)
    distances = np.arange(window)
    group = query.shape[1] // key.shape[1]

    def collected(array, old):
        """Return ``(batch, heads, time, window, head_dim)``."""
        seen = [
            array[:, :, context_length - 1 - n :]
            if n < context_length
            else old[:, :, window - 1 - n :]
            for n in distances
        ]
        return jnp.repeat(jnp.stack([part[:, :, :time] for part in seen], axis=3), group, axis=1)

    k, v = map(collected, (key, value), (None, None) if memory is None else memory)
    pairs = len(positions.frequencies)
    if pairs:
        if positions.interleaved:
            first, second = slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
        else:
            first, second = slice(0, pairs), slice(pairs, 2 * pairs)
        x, y = k[..., first], k[..., second]
        angles = -distances[:, None] * np.asarray(positions.frequencies)
        k = k.at[..., first].set(np.cos(angles) * x - np.sin(angles) * y)
        k = k.at[..., second].set(np.sin(angles) * x + np.cos(angles) * y)
    content = query
    if positions.content_bias is not None:
        content = query + positions.content_bias[:, None]
    scores = jnp.einsum("bhtd,bhtnd->bhtn", content, k)
    if positions.relative_key is not None:
        scores += jnp.einsum("bhtd,nhd->bhtn", query, positions.relative_key)
    scores /= np.sqrt(query.shape[-1])
    if positions.bias is not None:
        scores += positions.bias[:, None]
    visible = distances <= age[:, None, :, None]
    weights = jax.nn.softmax(jnp.where(visible, scores, -jnp.inf))
    return jnp.einsum("bhtn,bhtnd->bhtd", weights, v), weights


def draw_positions(window):
    numbers = np.random.default_rng(1)
    return {
        "none": Positions(),
        "rotary": Positions(frequencies=(1.0, 0.3)),
        "interleaved": Positions(frequencies=(1.0, 0.3, 0.01), interleaved=True),
        "bias": Positions(bias=jnp.asarray(numbers.standard_normal((HEADS, window)))),
        "all": Positions(
            bias=jnp.asarray(numbers.standard_normal((HEADS, window))),
            relative_key=jnp.asarray(numbers.standard_normal((window, HEADS, HEAD_DIM))),
            content_bias=jnp.asarray(numbers.standard_normal((HEADS, HEAD_DIM))),
            frequencies=(0.7,),
        ),
    }


def attend_in_a_loop(query, key, value, positions, memory, age):
    return loop(query, key, value, age, CONTEXT, positions, memory)[0]


loop_with_gradients = with_gradients(attend_in_a_loop, range(5))


@pytest.mark.parametrize("with_memory", [False, True])
@pytest.mark.parametrize(
    ("name", "block_size"),
    [("none", 4), ("rotary", 3), ("interleaved", None), ("bias", 4), ("all", 4), ("all", 1)],
)
def test_values_and_gradients_are_those_of_a_loop(name, block_size, with_memory):
    query, key, value, memory = draw()
    positions = draw_positions(CONTEXT + with_memory * MEMORY)[name]
    arguments = query, key, value, positions, memory if with_memory else None

    def run(query, key, value, positions, memory, age):
        return ops.sliding_window_attention(
            query, key, value, age, CONTEXT, positions, memory, block_size=block_size
        )

    actual = with_gradients(run, range(5))(*arguments, draw_age())
    expected = loop_with_gradients(*arguments, draw_age())
    assert_close(jax.tree.leaves(actual), jax.tree.leaves(expected))


@pytest.mark.parametrize("name", ["rotary", "all"])
def test_blocks_agree_with_the_definition_for_a_single_query(name):
    query, key, value, memory = draw()
    positions, age = draw_positions(CONTEXT + MEMORY)[name], np.asarray(draw_age())
    attend = jax.jit(
        partial(
            ops.sliding_window_attention, context_length=CONTEXT, positions=positions, block_size=4
        )
    )
    outputs = np.asarray(attend(query, key, value, age, memory=memory))
    for t in range(TIME):
        seen = [array[:, :, t : t + CONTEXT] for array in (key, value)]
        old = tuple(array[:, :, t : t + MEMORY] for array in memory)
        now = slice(t, t + 1)
        output = attend(query[:, :, now], *seen, age[:, now], memory=old)
        assert_close(output, outputs[:, :, now])


@pytest.mark.parametrize("name", ["none", "rotary", "all"])
def test_the_fused_kernel_is_given_the_same_attention(name):
    arguments, age = draw(), draw_age()
    positions = draw_positions(CONTEXT + MEMORY)[name]

    @jax.jit
    def run(query, key, value, memory):
        return ops.sliding_window_attention(
            query, key, value, age, CONTEXT, positions, memory, "fused", block_size=4
        )

    outputs = run(*jax.tree.map(lambda array: array.astype(np.float32), arguments))
    query, key, value, memory = arguments
    expected = jax.jit(attend_in_a_loop)(query, key, value, positions, memory, age)
    assert outputs.dtype == np.float32
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("time", [1, TIME])
def test_weights_are_those_of_a_loop(time):
    query, key, value, memory = draw(time)
    positions, age = draw_positions(CONTEXT + MEMORY)["all"], np.asarray(draw_age())[:, -time:]

    @jax.jit
    def run(query, key, value, memory, age):
        weights = ops.sliding_window_attention_weights(
            query, key, age, CONTEXT, positions, memory[0]
        )
        return weights, loop(query, key, value, age, CONTEXT, positions, memory)[1]

    weights, expected = run(query, key, value, memory, age)
    assert weights.shape == (BATCH, HEADS, time, CONTEXT + MEMORY)
    assert_close(weights, expected)


@cache
def later_with_gradients(block_size, start):
    """Compile outputs and the gradients of those from a step on, once for all that is poisoned."""

    def later(arguments, age):
        query, key, value, memory = arguments
        outputs = ops.sliding_window_attention(
            query, key, value, age, CONTEXT, memory=memory, block_size=block_size
        )
        return weighted_sum(outputs[:, :, start:]), outputs

    return jax.jit(jax.grad(later, has_aux=True))


@pytest.mark.parametrize("poison", [np.nan, np.inf, 1e200])
@pytest.mark.parametrize("block_size", [3, 64])
def test_what_an_episode_before_held_leaves_no_trace(poison, block_size):
    start = 5
    done = np.zeros((BATCH, TIME), bool)
    done[:, start] = True
    age = episode_age(done, np.array([2, 30]), CONTEXT + MEMORY - 1)

    def poisoned(array, leading):
        array = array.copy()
        array[:, :, : leading + start] = poison
        return array

    query, key, value, memory = draw()
    bad = (
        poisoned(query, 0),
        *(poisoned(array, CONTEXT - 1) for array in (key, value)),
        tuple(poisoned(array, CONTEXT + MEMORY - 1) for array in memory),
    )
    run = later_with_gradients(block_size, start)
    slopes, outputs = jax.device_get(run((query, key, value, memory), age))
    bad_slopes, bad_outputs = jax.device_get(run(bad, age))
    assert_close(bad_outputs[:, :, start:], outputs[:, :, start:])
    assert_close(bad_slopes, slopes)
    # Where it belongs, it shows.
    assert np.isnan(bad_outputs[:, :, :start]).all()


@pytest.mark.parametrize("time", [1, TIME])
def test_a_query_that_sees_a_nan_gets_nan(time):
    query, key, value, _ = draw(time)
    age = np.broadcast_to(np.minimum(np.arange(time) + CONTEXT - 1, CONTEXT - 1), (BATCH, time))
    value[0, 0, 0, 0] = np.nan

    attend = jax.jit(partial(ops.sliding_window_attention, context_length=CONTEXT, block_size=4))
    bad = np.isnan(attend(query, key, value, age)).any((1, 3))
    expected = np.zeros((BATCH, time), bool)
    expected[0, 0] = True
    np.testing.assert_array_equal(bad, expected)


def test_temporary_memory_grows_with_time_alone():
    def temporary(time):
        shapes = [
            jax.ShapeDtypeStruct((1, 1, length, 8), np.float32) for length in (time, time + 31)
        ]
        age = jax.ShapeDtypeStruct((1, time), np.int32)

        def total(query, key, value, age):
            return ops.sliding_window_attention(query, key, value, age, 32).sum()

        program = jax.jit(jax.grad(total, argnums=(0, 1, 2)))
        compiled = program.lower(shapes[0], shapes[1], shapes[1], age).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(8192) < 4.3 * temporary(2048)
    # Scores of time x time would be 64 numbers of 4 bytes for each of these.
    assert temporary(8192) < 64 * 8192 * 8


def test_age_counts_from_the_episodes_start():
    done = jnp.zeros((2, 6), bool).at[0, 2].set(True).at[0, 4].set(True)
    age = ops.episode_age(done, jnp.array([7, 1]), 4)
    np.testing.assert_array_equal(age, [[4, 4, 0, 1, 0, 1], [1, 2, 3, 4, 4, 4]])


def test_a_window_keeps_the_episodes_last_steps():
    window = jnp.arange(1.0, 4.0)[None, :, None]
    values = jnp.arange(4.0, 6.0)[None, :, None]
    whole, kept = ops.slide_window(window, values, jnp.array([2]))
    assert whole.ravel().tolist() == [2, 3, 4, 5]
    assert kept.ravel().tolist() == [3, 4, 5]
    _, kept = ops.slide_window(window, values, jnp.array([0]))
    assert kept.ravel().tolist() == [0, 0, 5]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"key": jnp.zeros((2, 2, 11, 6))}, r"\(2, 2, 14, 6\), got \(2, 2, 11, 6\)"),
        ({"query": jnp.zeros((2, 3, 11, 6))}, r"heads divisible .* got \(2, 3, 11, 6\)"),
        ({"age": jnp.zeros((2, 10), int)}, r"age must have shape \(2, 11\), got \(2, 10\)"),
        ({"memory": (jnp.zeros((2, 2, 10, 6)),) * 2}, r"at least \(2, 2, 11, 6\), got"),
        ({"context_length": 0}, "context_length must be an integer of at least 1, got 0"),
        ({"block_size": 0}, "block_size must be an integer of at least 1, got 0"),
        ({"implementation": "fuzed"}, "unknown implementation 'fuzed'; the closest are: fused"),
    ],
)
def test_what_does_not_fit_is_refused(changed, words, as_a_user):
    query, key, value, memory = draw()
    fitting = {
        "query": query,
        "key": key,
        "value": value,
        "age": jnp.zeros((BATCH, TIME), int),
        "context_length": CONTEXT,
        "memory": memory,
    }
    with pytest.raises(ValueError, match=words):
        ops.sliding_window_attention(**(fitting | changed))
