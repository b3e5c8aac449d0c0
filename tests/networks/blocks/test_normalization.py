import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax.networks import PostNorm, PreNorm, Residual, Stack
from tests.networks.samples import draw_params

INPUTS = 3 * jax.random.normal(jax.random.key(0), (2, 3, 4)) + 1


def layer_norm(values):
    centred = values - values.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)


def rms_norm(values):
    return values / np.sqrt((values**2).mean(-1, keepdims=True) + 1e-6)


NORMS = [
    (nn.LayerNorm, layer_norm),
    (nn.RMSNorm, rms_norm),
    (nn.LayerNorm(), layer_norm),
    (nn.RMSNorm(), rms_norm),
]


@pytest.mark.parametrize(("normalization", "expected"), NORMS)
def test_inputs_or_outputs_are_normalised(normalization, expected):
    before, after = PreNorm(jnp.square, normalization), PostNorm(jnp.square, normalization)
    values = np.asarray(INPUTS)
    for model, target in ((before, expected(values) ** 2), (after, expected(values**2))):
        _, outputs = model.apply(model.init(jax.random.key(0), INPUTS), INPUTS)
        np.testing.assert_allclose(outputs, target, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("block", [PreNorm, PostNorm])
def test_a_norm_given_to_several_blocks_is_another_one_in_each(block):
    norm = nn.RMSNorm()
    model = Stack((block(Residual(block(nn.Dense(4), norm)), norm), block(nn.Dense(4), norm)))
    params = draw_params(model, INPUTS)
    norms = [
        path for path, _ in jax.tree_util.tree_leaves_with_path(params) if path[-1].key == "scale"
    ]
    assert len(norms) == 3


def test_a_norm_computes_in_the_blocks_dtypes():
    model = PreNorm(nn.Dense(4), dtype=jnp.bfloat16, param_dtype=jnp.float16)
    shapes = jax.eval_shape(model.init, jax.random.key(0), INPUTS)
    assert shapes["params"]["norm"]["scale"].dtype == jnp.float16
    silent = PreNorm(lambda x: x, dtype=jnp.bfloat16)
    _, outputs = silent.apply(silent.init(jax.random.key(0), INPUTS), INPUTS)
    assert outputs.dtype == jnp.bfloat16


@pytest.mark.parametrize("block", [PreNorm, PostNorm])
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ((5,), "module must be a Flax module or a callable, got 5"),
        ((nn.Dense(4), "rms"), "normalization must be a Flax module or a callable, got 'rms'"),
        (
            (nn.Dense(4), nn.BatchNorm),
            "normalization must normalise each step of each row by itself, .* got BatchNorm",
        ),
        (
            (nn.Dense(4), nn.GroupNorm(2)),
            "normalization must normalise each step of each row by itself, .* got GroupNorm",
        ),
    ],
)
def test_bad_field_is_named(block, fields, words):
    with pytest.raises(ValueError, match=f"{block.__name__}.{words}"):
        block(*fields)


@pytest.mark.parametrize("block", [PreNorm(nn.Dense(4)), PostNorm(nn.Dense(1))])
def test_a_layer_norm_of_a_single_feature_which_is_always_0_is_refused(block):
    inputs = jnp.ones((2, 3, 1 if isinstance(block, PreNorm) else 4))
    with pytest.raises(ValueError, match=r"Norm\.normalization must not be nn\.LayerNorm"):
        jax.eval_shape(block.init, jax.random.key(0), inputs)
