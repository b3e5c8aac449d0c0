from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax.networks import (
    ALiBi,
    LearnablePositionalEmbedding,
    RelativePositionalEmbedding,
    RoPE,
    SegmentRecurrence,
    SelfAttention,
    SelfAttentionConfig,
)
from tests.networks.samples import draw_params

FEATURES, HEADS, CONTEXT = 8, 2, 4
INPUTS = jax.random.normal(jax.random.key(0), (2, 9, 5))
DONE = jnp.zeros((2, 9), bool).at[1, 6].set(True)


def attention(embedding=None, dtype=None, param_dtype=jnp.float32, **fields):
    config = SelfAttentionConfig(FEATURES, HEADS, CONTEXT, embedding, **fields)
    return SelfAttention(config, dtype=dtype, param_dtype=param_dtype)


def test_outputs_are_those_of_the_equations():
    with jax.enable_x64(True):
        model = attention(
            param_dtype=jnp.float64,
            num_key_value_heads=1,
            head_dim=3,
            normalize_query_key=True,
            use_bias=True,
        )
        inputs = INPUTS.astype(jnp.float64)
        variables = draw_params(model, inputs)
        _, outputs = jax.jit(model.apply)(variables, inputs, DONE)
    params = jax.tree.map(np.asarray, variables["params"])
    x, done = np.asarray(inputs), np.asarray(DONE)

    def mapped(name, values):
        return values @ params[name]["kernel"] + params[name]["bias"]

    def normalized(name, values):
        scale = params[f"{name}_norm"]["scale"]
        return values / np.sqrt((values**2).mean(-1, keepdims=True) + 1e-6) * scale

    expected = np.zeros(outputs.shape)
    for row in range(2):
        start = 0
        for t in range(9):
            start = t if done[row, t] else start
            seen = x[row, max(start, t - CONTEXT + 1) : t + 1]
            keys, values = normalized("key", mapped("key", seen)), mapped("value", seen)
            heads = []
            for query in mapped("query", x[row, t]).reshape(HEADS, 3):
                weights = np.exp(keys @ normalized("query", query) / np.sqrt(3))
                heads.append(weights @ values / weights.sum())
            expected[row, t] = mapped("output", np.concatenate(heads))
    np.testing.assert_allclose(outputs, expected, rtol=1e-10, atol=1e-10)


def test_a_first_step_attends_to_itself_alone():
    model = attention(ALiBi(HEADS))
    params = draw_params(model, INPUTS)
    _, outputs = jax.jit(model.apply)(params, INPUTS[:, :1])
    kernels = params["params"]
    expected = INPUTS[:, :1] @ kernels["value"]["kernel"] @ kernels["output"]["kernel"]
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "embedding",
    [RoPE(), ALiBi(HEADS), LearnablePositionalEmbedding(), RelativePositionalEmbedding(features=6)],
    ids=lambda embedding: type(embedding).__name__,
)
def test_only_the_last_steps_of_a_very_long_episode_matter(embedding):
    model = SegmentRecurrence(attention(embedding), memory_length=3, features=5)
    # Row 1 has another past, which ends where the first row's last query ceases to see.
    inputs = np.random.default_rng(1).standard_normal((2, 100_000, 5), np.float32)
    seen = CONTEXT + 3
    inputs[1, -seen:] = inputs[0, -seen:]
    done = np.zeros((2, 100_000), bool)
    done[1, -seen] = True
    params = draw_params(model, inputs[:, :1])
    outputs = np.asarray(jax.jit(model.apply)(params, inputs, done)[1])
    np.testing.assert_allclose(outputs[0, -1], outputs[1, -1], rtol=1e-5, atol=1e-6)
    assert (np.abs(outputs[0, -2] - outputs[1, -2]) > 1e-5).any()


def test_the_carry_holds_what_was_not_rotated():
    plain, rotated = attention(), attention(RoPE())
    params = draw_params(plain, INPUTS)
    (keys, values, length), _ = jax.jit(plain.apply)(params, INPUTS, DONE)
    rotated_carry, _ = jax.jit(rotated.apply)(params, INPUTS, DONE)
    for one, other in zip((keys, values, length), rotated_carry, strict=True):
        np.testing.assert_array_equal(one, other)
    expected = (INPUTS[0, -CONTEXT:] @ params["params"]["key"]["kernel"]).reshape(-1, HEADS, 4)
    np.testing.assert_allclose(keys[0].swapaxes(0, 1), expected, rtol=1e-5, atol=1e-6)
    # Row 1 is in the third step of its episode.
    assert length.tolist() == [4, 3]
    assert (keys[1, :, 0] == 0).all()
    assert (values[1, :, 0] == 0).all()


def test_keys_and_values_of_the_window_are_kept_and_not_computed_again():
    model = attention()
    params = draw_params(model, INPUTS)
    read = jax.jit(model.apply)
    carry, _ = read(params, INPUTS)
    params["params"]["value"]["kernel"] *= 0
    _, outputs = read(params, INPUTS[:, :1], initial_carry=carry)
    assert (np.abs(outputs) > 1e-3).all()


def test_shared_keys_make_a_smaller_carry():
    sizes = [
        sum(
            leaf.size for leaf in jax.tree.leaves(model.initialize_carry(jax.random.key(0), (1, 1)))
        )
        for model in (attention(), attention(num_key_value_heads=1))
    ]
    assert sizes == [2 * HEADS * CONTEXT * 4 + 1, HEADS * CONTEXT * 4 + 1]


def test_weights_are_kept_on_request_only():
    model = attention(RoPE())
    params = draw_params(model, INPUTS)
    assert set(params) == {"params"}
    read = partial(model.apply, params, INPUTS, DONE)
    (_, outputs), sown = jax.jit(partial(read, mutable=["intermediates"]))()
    (weights,) = sown["intermediates"]["attention_weights"]
    assert weights.shape == (2, HEADS, 9, CONTEXT)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
    # The first step of an episode sees no step back.
    np.testing.assert_array_equal(weights[1, :, 6, 1:], 0)
    _, plain = jax.jit(read)()
    np.testing.assert_array_equal(outputs, plain)


def test_half_precision_is_that_of_the_carry_and_the_outputs():
    model = attention(RoPE(), dtype=jnp.bfloat16)
    carry, outputs = jax.jit(model.apply)(draw_params(model, INPUTS), INPUTS)
    assert outputs.dtype == jnp.bfloat16
    assert [leaf.dtype for leaf in carry] == [jnp.bfloat16, jnp.bfloat16, jnp.int32]


def test_a_config_can_be_compared_and_hashed():
    assert attention(ALiBi(HEADS)) == attention(ALiBi(HEADS))
    assert hash(attention(ALiBi(HEADS))) == hash(attention(ALiBi(HEADS)))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"features": 65, "num_heads": 4},
            "SelfAttentionConfig.features must be divisible by num_heads, got features=65, "
            "num_heads=4",
        ),
        ({"features": 0}, "SelfAttentionConfig.features must be an integer .* got 0"),
        ({"num_heads": 0}, "SelfAttentionConfig.num_heads must be an integer .* got 0"),
        ({"context_length": 0}, "SelfAttentionConfig.context_length must be .* got 0"),
        ({"head_dim": -1}, "SelfAttentionConfig.head_dim must be an integer .* got -1"),
        (
            {"num_key_value_heads": 3},
            "num_heads must be divisible by num_key_value_heads, got num_heads=4, "
            "num_key_value_heads=3",
        ),
    ],
)
def test_bad_field_is_named(fields, words):
    with pytest.raises(ValueError, match=words):
        SelfAttentionConfig(**{"features": 64, "num_heads": 4, "context_length": 8} | fields)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"implementation": "block"},
            "SelfAttention.implementation: unknown .* 'block'",
        ),
        ({"block_size": 0}, "SelfAttention.block_size must be an integer of at least 1, got 0"),
    ],
)
def test_bad_option_is_named(fields, words, as_a_user):
    with pytest.raises(ValueError, match=words):
        SelfAttention(SelfAttentionConfig(8, 2, 4), **fields)
