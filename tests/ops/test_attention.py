from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax import ops
from memorax.ops import Positions
from tests.ops.loops import assert_close, draw_done, weighted_sum

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
    query, key, value, *memory = (jnp.asarray(numbers.standard_normal(shape)) for shape in shapes)
    return query, key, value, tuple(memory)


def draw_age(time=TIME, limit=CONTEXT + MEMORY - 1):
    return ops.episode_age(jnp.asarray(draw_done(BATCH, time)), jnp.array([2, 30]), limit)


def loop(query, key, value, age, context_length, positions, memory=None):
    """Attend to one distance after another."""
    time = query.shape[2]
    window = context_length + (0 if memory is None else memory[0].shape[2] + 1 - time)
    pairs = len(positions.frequencies)
    group = query.shape[1] // key.shape[1]
    content = query
    if positions.content_bias is not None:
        content = query + positions.content_bias[:, None]
    scores, values = [], []
    for n in range(window):
        if n < context_length:
            k, v = (array[:, :, context_length - 1 - n :][:, :, :time] for array in (key, value))
        else:
            k, v = (array[:, :, window - 1 - n :][:, :, :time] for array in memory)
        k, v = jnp.repeat(k, group, axis=1), jnp.repeat(v, group, axis=1)
        if pairs:
            if positions.interleaved:
                first, second = slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
            else:
                first, second = slice(0, pairs), slice(pairs, 2 * pairs)
            x, y, angles = k[..., first], k[..., second], -n * np.asarray(positions.frequencies)
            k = k.at[..., first].set(np.cos(angles) * x - np.sin(angles) * y)
            k = k.at[..., second].set(np.sin(angles) * x + np.cos(angles) * y)
        score = (content * k).sum(-1)
        if positions.relative_key is not None:
            score += (query * positions.relative_key[n][:, None]).sum(-1)
        score /= np.sqrt(query.shape[-1])
        if positions.bias is not None:
            score += positions.bias[:, n, None]
        scores.append(jnp.where((n <= age)[:, None], score, -jnp.inf))
        values.append(v)
    weights = jax.nn.softmax(jnp.stack(scores, axis=-1))
    return jnp.einsum("bhtn,nbhtd->bhtd", weights, jnp.stack(values)), weights


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


@pytest.mark.parametrize("with_memory", [False, True])
@pytest.mark.parametrize(
    ("name", "block_size"),
    [("none", 4), ("rotary", 3), ("interleaved", None), ("bias", 4), ("all", 4), ("all", 1)],
)
def test_values_and_gradients_are_those_of_a_loop(name, block_size, with_memory):
    query, key, value, memory = draw()
    positions = draw_positions(CONTEXT + with_memory * MEMORY)[name]
    age, memory = draw_age(), memory if with_memory else None

    def run(query, key, value, positions, memory):
        return ops.sliding_window_attention(
            query, key, value, age, CONTEXT, positions, memory, block_size=block_size
        )

    def expected(query, key, value, positions, memory):
        return loop(query, key, value, age, CONTEXT, positions, memory)[0]

    def value_and_gradients(run):
        def total(arguments):
            outputs = run(*arguments)
            return weighted_sum(outputs), outputs

        return jax.jit(jax.grad(total, has_aux=True))((query, key, value, positions, memory))

    (slopes, outputs), (loop_slopes, loop_outputs) = map(value_and_gradients, (run, expected))
    assert_close(outputs, loop_outputs)
    assert_close(jax.tree.leaves(slopes), jax.tree.leaves(loop_slopes))


@pytest.mark.parametrize("name", ["rotary", "all"])
def test_a_single_query_sees_what_it_does_in_a_long_call(name):
    query, key, value, memory = draw()
    positions, age = draw_positions(CONTEXT + MEMORY)[name], draw_age()
    attend = partial(
        ops.sliding_window_attention, context_length=CONTEXT, positions=positions, block_size=4
    )
    outputs = attend(query, key, value, age, memory=memory)
    step = jax.jit(attend)
    for t in range(TIME):
        seen = [array[:, :, t : t + CONTEXT] for array in (key, value)]
        old = tuple(array[:, :, t : t + MEMORY] for array in memory)
        now = slice(t, t + 1)
        output = step(query[:, :, now], *seen, age[:, now], memory=old)
        assert_close(output, outputs[:, :, now])


@pytest.mark.parametrize("name", ["none", "rotary", "all"])
def test_the_fused_kernel_is_given_the_same_attention(name):
    arguments, age = draw(), draw_age()
    positions = draw_positions(CONTEXT + MEMORY)[name]
    query, key, value, memory = jax.tree.map(lambda array: array.astype(np.float32), arguments)

    @jax.jit
    def run(query, key, value, memory):
        return ops.sliding_window_attention(
            query, key, value, age, CONTEXT, positions, memory, "fused", block_size=4
        )

    @jax.jit
    def in_a_loop(query, key, value, memory):
        return loop(query, key, value, age, CONTEXT, positions, memory)[0]

    outputs, expected = run(query, key, value, memory), in_a_loop(*arguments)
    assert outputs.dtype == np.float32
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("time", [1, TIME])
def test_weights_are_those_of_a_loop(time):
    query, key, value, memory = draw(time)
    positions, age = draw_positions(CONTEXT + MEMORY)["all"], draw_age()[:, -time:]
    weights = ops.sliding_window_attention_weights(query, key, age, CONTEXT, positions, memory[0])
    _, expected = loop(query, key, value, age, CONTEXT, positions, memory)
    assert weights.shape == (BATCH, HEADS, time, CONTEXT + MEMORY)
    assert_close(weights, expected)


@pytest.mark.parametrize("poison", [np.nan, np.inf, 1e200])
@pytest.mark.parametrize("block_size", [3, 64])
def test_what_an_episode_before_held_leaves_no_trace(poison, block_size):
    start = 5
    arguments = draw()
    done = jnp.zeros((BATCH, TIME), bool).at[:, start].set(True)
    age = ops.episode_age(done, jnp.array([2, 30]), CONTEXT + MEMORY - 1)

    @jax.jit
    def after(arguments):
        def later(arguments):
            query, key, value, memory = arguments
            outputs = ops.sliding_window_attention(
                query, key, value, age, CONTEXT, memory=memory, block_size=block_size
            )
            return weighted_sum(outputs[:, :, start:]), outputs

        slopes, outputs = jax.grad(later, has_aux=True)(arguments)
        return outputs, slopes

    def poisoned(array, leading):
        return array.at[:, :, : leading + start].set(poison)

    query, key, value, memory = arguments
    bad = (
        poisoned(query, 0),
        *(poisoned(array, CONTEXT - 1) for array in (key, value)),
        tuple(poisoned(array, CONTEXT + MEMORY - 1) for array in memory),
    )
    (outputs, slopes), (bad_outputs, bad_slopes) = after(arguments), after(bad)
    assert_close(bad_outputs[:, :, start:], outputs[:, :, start:])
    assert_close(bad_slopes, slopes)
    # Where it belongs, it shows.
    assert np.isnan(bad_outputs[:, :, :start]).all()


@pytest.mark.parametrize("time", [1, TIME])
def test_a_query_that_sees_a_nan_gets_nan(time):
    query, key, value, _ = draw(time)
    age = jnp.broadcast_to(jnp.arange(time) + CONTEXT - 1, (BATCH, time))
    age = jnp.minimum(age, CONTEXT - 1)
    outputs = ops.sliding_window_attention(
        query, key, value.at[0, 0, 0, 0].set(jnp.nan), age, CONTEXT, block_size=4
    )
    bad = np.isnan(outputs).any((1, 3))
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
        ({"context_length": 0}, "context_length must be a whole number of at least 1, got 0"),
        ({"block_size": 0}, "block_size must be a whole number of at least 1, got 0"),
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
