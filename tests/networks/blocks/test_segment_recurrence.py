from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax.networks import RNN, ALiBi, SegmentRecurrence, SelfAttention, SelfAttentionConfig
from tests.networks.samples import draw_params

FEATURES, HEADS, CONTEXT, MEMORY, TIME = 6, 2, 3, 2, 9
INPUTS = jax.random.normal(jax.random.key(0), (1, TIME, FEATURES))


def attention(context_length):
    return SelfAttention(SelfAttentionConfig(FEATURES, HEADS, context_length, ALiBi(HEADS)))


MODEL = SegmentRecurrence(attention(CONTEXT), MEMORY, FEATURES)
PARAMS = draw_params(MODEL, INPUTS)


def plain_outputs(params, inputs):
    """Attend with scores of time x time, to inputs that learn and to others that do not."""
    kernels = params["params"]["sequence_model"]
    distances = np.arange(TIME)[:, None] - np.arange(TIME)
    behind = (distances >= CONTEXT)[None]

    def heads(name, values):
        return (values @ kernels[name]["kernel"]).reshape(TIME, HEADS, FEATURES // HEADS)

    query, held = heads("query", inputs[0]), jax.lax.stop_gradient(inputs[0])
    key, value, held_key, held_value = (
        heads(name, values) for values in (inputs[0], held) for name in ("key", "value")
    )
    scores = jnp.where(
        behind, *(jnp.einsum("qhd,khd->hqk", query, keys) for keys in (held_key, key))
    )
    scores /= np.sqrt(FEATURES / HEADS)
    scores -= ALiBi(HEADS).slopes()[:, None, None] * distances
    visible = (distances >= 0) & (distances < CONTEXT + MEMORY)
    weights = jax.nn.softmax(jnp.where(visible, scores, -jnp.inf))
    outputs = jnp.einsum("hqk,khd->qhd", jnp.where(behind, weights, 0), held_value)
    outputs += jnp.einsum("hqk,khd->qhd", jnp.where(behind, 0, weights), value)
    return outputs.reshape(1, TIME, FEATURES) @ kernels["output"]["kernel"]


def test_memory_is_seen_and_learnt_from_but_not_learnt_through():
    def values_and_gradients(run):
        def total(params, inputs):
            outputs = run(params, inputs)
            return (outputs**2).sum(), outputs

        return jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))(PARAMS, INPUTS)

    ours = values_and_gradients(lambda params, inputs: MODEL.apply(params, inputs)[1])
    expected = values_and_gradients(plain_outputs)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_no_gradient_comes_from_behind_the_context():
    @jax.jit
    @jax.grad
    def slope(inputs):
        return MODEL.apply(PARAMS, inputs)[1][:, -1].sum()

    reached = np.abs(slope(INPUTS)[0]).sum(-1) > 0
    assert reached.tolist() == [False] * (TIME - CONTEXT) + [True] * CONTEXT


def test_values_are_those_of_a_context_as_long_as_context_and_memory():
    longer = attention(CONTEXT + MEMORY)
    params = {"params": PARAMS["params"]["sequence_model"]}
    done = jnp.zeros((1, TIME), bool).at[0, 7].set(True)
    _, expected = jax.jit(longer.apply)(params, INPUTS, done)
    _, outputs = jax.jit(MODEL.apply)(PARAMS, INPUTS, done)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)


def test_the_memory_holds_inputs_whose_keys_are_formed_with_present_parameters():
    read = jax.jit(MODEL.apply)
    carry, _ = read(PARAMS, INPUTS)
    hidden = carry[1]
    np.testing.assert_array_equal(hidden, INPUTS[:, -CONTEXT - MEMORY :])
    changed = jax.tree.map(jnp.copy, PARAMS)
    changed["params"]["sequence_model"]["value"]["kernel"] *= 0
    # Nothing is left but the values kept of the context, which are zeroed here.
    keys, values, length = carry[0]
    emptied = ((keys, 0 * values, length), *carry[1:])
    _, outputs = read(changed, INPUTS[:, :1], initial_carry=emptied)
    np.testing.assert_allclose(outputs, 0, atol=1e-7)


def test_weights_cover_context_and_memory():
    _, sown = jax.jit(partial(MODEL.apply, mutable=["intermediates"]))(PARAMS, INPUTS)
    (weights,) = sown["intermediates"]["sequence_model"]["attention_weights"]
    assert weights.shape == (1, HEADS, TIME, CONTEXT + MEMORY)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)


def test_a_nan_in_memory_of_an_earlier_episode_spares_the_parameters():
    carry = MODEL.initialize_carry(jax.random.key(0), (1, FEATURES))
    carry = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), carry[:2]) + carry[2:]
    carry = ((*carry[0][:2], jnp.array([3])), carry[1], jnp.array([5]))
    done = jnp.zeros((1, TIME), bool).at[:, 0].set(True)

    @jax.jit
    @jax.grad
    def slopes(params, carry):
        return (MODEL.apply(params, INPUTS, done, carry)[1] ** 2).sum()

    fresh = MODEL.initialize_carry(jax.random.key(0), (1, FEATURES))
    poisoned, expected = slopes(PARAMS, carry), slopes(PARAMS, fresh)
    for one, other in zip(jax.tree.leaves(poisoned), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_the_guides_block_runs():
    features, num_heads = 64, 4
    model = SegmentRecurrence(
        SelfAttention(config=SelfAttentionConfig(features=features, num_heads=num_heads, context_length=128, positional_embedding=ALiBi(num_heads))),  # noqa: E501
        memory_length=64, features=features,
    )  # fmt: skip
    inputs = jnp.ones((2, 3, features))
    carry, outputs = jax.jit(model.apply)(draw_params(model, inputs), inputs)
    assert outputs.shape == (2, 3, features)
    assert carry[1].shape == (2, 192, features)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"sequence_model": RNN(cell=nn.GRUCell(4))},
            r"SegmentRecurrence.sequence_model must be a SelfAttention, .* got RNN",
        ),
        ({"sequence_model": nn.Dense(4)}, r"must be a SelfAttention, .* got Dense"),
        ({"memory_length": 0}, "SegmentRecurrence.memory_length must be .* at least 1, got 0"),
        ({"features": 0}, "SegmentRecurrence.features must be .* at least 1, got 0"),
    ],
)
def test_bad_field_is_named(fields, words, as_a_user):
    fitting = {"sequence_model": attention(3), "memory_length": 2, "features": 6}
    with pytest.raises(ValueError, match=words):
        SegmentRecurrence(**(fitting | fields))


def test_inputs_of_another_width_are_refused():
    words = r"features must be the width of the inputs, got features=6, .* \(2, 3, 5\)"
    with pytest.raises(ValueError, match=words):
        MODEL.apply(PARAMS, jnp.ones((2, 3, 5)))
