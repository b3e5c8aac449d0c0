import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax.networks import FFN, GLU, Projection
from tests.networks.samples import draw_params

INPUTS = jax.random.normal(jax.random.key(0), (2, 3, 5))


def affine(params, name, values):
    return values @ params[name]["kernel"] + params[name].get("bias", 0)


def test_projection_is_a_linear_map():
    model = Projection(4)
    variables = draw_params(model, INPUTS)
    expected = affine(variables["params"], "projection", INPUTS)
    np.testing.assert_allclose(model.apply(variables, INPUTS), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("activation", [nn.gelu, nn.relu])
def test_ffn_has_one_hidden_layer_as_wide_as_asked_for(activation):
    model = FFN(4, 3, activation)
    variables = draw_params(model, INPUTS)
    params = variables["params"]
    assert params["up"]["kernel"].shape == (5, 12)
    expected = affine(params, "down", activation(affine(params, "up", INPUTS)))
    np.testing.assert_allclose(model.apply(variables, INPUTS), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("activation", [nn.silu, nn.gelu, nn.sigmoid])
@pytest.mark.parametrize("use_bias", [False, True])
def test_glu_multiplies_by_a_gate(activation, use_bias):
    model = GLU(4, 2, activation, use_bias)
    variables = draw_params(model, INPUTS)
    params = variables["params"]
    gate = activation(affine(params, "gate", INPUTS))
    expected = affine(params, "down", gate * affine(params, "up", INPUTS))
    np.testing.assert_allclose(model.apply(variables, INPUTS), expected, rtol=1e-5, atol=1e-6)
    assert ("bias" in params["gate"]) == use_bias


def test_a_glu_is_as_large_as_an_ffn():
    def size(model):
        return sum(leaf.size for leaf in jax.tree.leaves(draw_params(model, jnp.ones((1, 1, 48)))))

    assert size(GLU(48)) == size(FFN(48, use_bias=False))


def test_any_leading_axes_do():
    assert Projection(4).init_with_output(jax.random.key(0), jnp.ones(5))[0].shape == (4,)


@pytest.mark.parametrize(
    ("module", "fields", "words"),
    [
        (Projection, (0,), "Projection.features must be .* at least 1, got 0"),
        (FFN, (0,), "FFN.features must be .* at least 1, got 0"),
        (GLU, (-1,), "GLU.features must be .* at least 1, got -1"),
        (FFN, (8, 0), "FFN.expansion_factor must be a number of at least 0.125, got 0"),
        (GLU, (8, 0.1), "GLU.expansion_factor must be a number of at least 0.125, got 0.1"),
    ],
)
def test_bad_field_is_named(module, fields, words):
    with pytest.raises(ValueError, match=words):
        module(*fields)
