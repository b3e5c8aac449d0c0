from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax.networks import (
    ALiBi,
    LearnablePositionalEmbedding,
    PositionalEmbedding,
    RelativePositionalEmbedding,
    RoPE,
    SelfAttention,
    SelfAttentionConfig,
)
from memorax.ops import Positions
from tests.networks.samples import draw_params

INPUTS = jax.random.normal(jax.random.key(0), (2, 9, 5))


def attention(embedding, **fields):
    return SelfAttention(
        SelfAttentionConfig(8, 2, context_length=4, positional_embedding=embedding, **fields)
    )


def test_alibi_biases_a_score_by_slope_times_distance():
    positions = ALiBi(2).apply({}, 2, 4, 3)
    np.testing.assert_allclose(positions.bias, [[0, -1 / 16, -1 / 8], [0, -1 / 256, -1 / 128]])


def test_alibi_takes_every_second_slope_of_the_next_power_of_two():
    quarters = [2**-2, 2**-4, 2**-6, 2**-8]
    np.testing.assert_allclose(ALiBi(6).slopes(), [*quarters, 2**-1, 2**-3])


def test_rope_turns_the_first_pairs_by_falling_frequencies():
    positions = RoPE(rotary_dim=4, base=100.0).apply({}, 2, 6, 3)
    np.testing.assert_allclose(positions.frequencies, [1, 0.1])
    assert RoPE().apply({}, 1, 6, 3).frequencies[-1] == pytest.approx(10000 ** (-4 / 6))


def test_shaw_embedding_is_learnt_by_distance_and_shared_by_heads():
    model = attention(LearnablePositionalEmbedding())
    params = draw_params(model, INPUTS)
    assert params["params"]["positional_embedding"]["embedding"].shape == (4, 4)

    @jax.jit
    @jax.grad
    def slopes(params):
        return (model.apply(params, INPUTS[:, :3])[1] ** 2).sum()

    slope = slopes(params)["params"]["positional_embedding"]["embedding"]
    # Three steps are nowhere three apart.
    assert (np.abs(slope).sum(1) > 0).tolist() == [True, True, True, False]


def test_sinusoids_are_mapped_to_keys_and_biases():
    embedding = RelativePositionalEmbedding(features=4)
    params = {
        "kernel": jnp.arange(24.0).reshape(4, 6),
        "content_bias": jnp.ones((2, 3)),
        "position_bias": jnp.arange(6.0).reshape(2, 3),
    }
    positions = embedding.apply({"params": params}, 2, 3, 5)
    n = 3
    sinusoids = [np.sin(n), np.sin(0.01 * n), np.cos(n), np.cos(0.01 * n)]
    keys = (sinusoids @ np.asarray(params["kernel"])).reshape(2, 3)
    np.testing.assert_allclose(positions.relative_key[n], keys, rtol=1e-6)
    bias = (params["position_bias"] * keys).sum(-1) / np.sqrt(3)
    np.testing.assert_allclose(positions.bias[:, n], bias, rtol=1e-6)


class Halving(PositionalEmbedding):
    """An embedding of one's own: each step back is a quarter as likely."""

    def __call__(self, num_heads, head_dim, window):
        return Positions(bias=-jnp.log(4.0) * jnp.ones((num_heads, 1)) * jnp.arange(window))


def test_an_embedding_of_ones_own_is_one_method():
    model = attention(Halving())
    params = draw_params(model, INPUTS)
    params["params"]["query"]["kernel"] *= 0
    _, sown = jax.jit(partial(model.apply, mutable=["intermediates"]))(params, INPUTS)
    (weights,) = sown["intermediates"]["attention_weights"]
    np.testing.assert_allclose(weights[:, :, 3:, 1:] / weights[:, :, 3:, :-1], 1 / 4, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RoPE(rotary_dim=3), "RoPE.rotary_dim must be even, .* got 3"),
        (lambda: RoPE(rotary_dim=0), "RoPE.rotary_dim must be an integer .* got 0"),
        (lambda: RoPE(base=0.5), "RoPE.base must be a number of at least 1, got 0.5"),
        (lambda: attention(RoPE(rotary_dim=6)), "at most head_dim, got rotary_dim=6, head_dim=4"),
        (lambda: attention(RoPE(), head_dim=5), "head_dim must be even, got 5"),
        (lambda: ALiBi(0), "ALiBi.num_heads must be an integer of at least 1, got 0"),
        (lambda: attention(ALiBi(4)), "got ALiBi.num_heads=4, num_heads=2"),
        (lambda: RelativePositionalEmbedding(5), "features must be even, .* got 5"),
        (lambda: RelativePositionalEmbedding(0), "features must be an integer .* got 0"),
        (lambda: attention("rope"), "must be an instance of PositionalEmbedding, .* got 'rope'"),
    ],
)
def test_what_does_not_fit_is_refused(make, words, as_a_user):
    with pytest.raises(ValueError, match=words):
        make()
