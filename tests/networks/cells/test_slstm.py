import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from memorax.networks import RNN
from memorax.networks.cells.slstm import sLSTMCell, sLSTMConfig
from tests.networks.samples import draw

INPUTS = jax.random.normal(jax.random.key(0), (3, 11, 5))
CONFIGS = {
    "without convolution": sLSTMConfig(features=6, hidden_dim=8, num_heads=2),
    "with convolution": sLSTMConfig(features=6, hidden_dim=8, num_heads=2, kernel_size=4),
}
each_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def drawn_parameters(model):
    return draw(jax.eval_shape(model.init, jax.random.key(1), INPUTS))


@each_config
def test_input_memory_and_output_have_widths_of_their_own(config):
    model = RNN(cell=sLSTMCell(config))
    (carry, outputs), variables = jax.eval_shape(model.init_with_output, jax.random.key(1), INPUTS)
    assert outputs.shape == (3, 11, 6)
    assert [leaf.shape for leaf in carry[:4]] == [(3, 8)] * 4
    assert [leaf.shape for leaf in carry[4:]] == [(3, 3, 8)] * bool(config.kernel_size)
    kernels = variables["params"]["cell"]
    assert kernels["input_projection"]["kernel"].shape == (5, 8)
    assert kernels["output_projection"]["kernel"].shape == (8, 6)


@each_config
def test_half_precision_remembers_in_float32(config):
    model = RNN(cell=sLSTMCell(config, dtype=jnp.bfloat16))
    carry, _ = jax.jit(model.apply)(drawn_parameters(model), INPUTS)
    for leaf in carry[:4]:
        assert leaf.dtype == jnp.float32
        assert (leaf != leaf.astype(jnp.bfloat16).astype(jnp.float32)).any()


@each_config
def test_normaliser_is_never_below_one(config):
    model = RNN(cell=sLSTMCell(config))
    read = jax.jit(model.apply)
    for scale in (1e-3, 1.0, 1e3):
        (_, n, *_), _ = read(drawn_parameters(model), scale * INPUTS)
        assert (n >= 1).all()


@each_config
def test_gradients_are_those_of_finite_differences(config):
    with jax.enable_x64(True):
        model = RNN(cell=sLSTMCell(config, param_dtype=jnp.float64))
        inputs = INPUTS[:, :4].astype(jnp.float64)
        variables = drawn_parameters(model)
        carry, _ = jax.jit(model.apply)(variables, inputs)

        # Of the carry as well, whose stabiliser cancels in the outputs alone.
        @jax.jit
        def read(variables, inputs, carry):
            return model.apply(variables, inputs, initial_carry=carry)

        check_grads(read, (variables, inputs, carry), order=1, modes=["rev"])


def test_initial_values():
    config = sLSTMConfig(features=6, hidden_dim=128, num_heads=2, kernel_size=4)
    model = RNN(cell=sLSTMCell(config))
    cell = jax.device_get(jax.jit(model.init)(jax.random.key(1), INPUTS))["params"]["cell"]
    head_dim = 64
    np.testing.assert_allclose(cell["input_kernel"].std(), (2 / (5 * head_dim)) ** 0.5, rtol=0.03)
    assert not cell["recurrent_kernel"].any()
    assert not cell["norm_weight"].any()
    i, f, z, o = cell["bias"]
    assert not np.any([i, z, o])
    for head in f:
        assert head[0] == 5
        assert head[-1] == -7
        assert (np.diff(head) < 0).all()
    # Uniform between -1/2 and 1/2.
    np.testing.assert_allclose(cell["conv_kernel"].std(), 12**-0.5, rtol=0.1)
    assert np.abs(cell["conv_kernel"]).max() <= 0.5


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"features": 0}, "sLSTMConfig.features must be an integer of at least 1, got 0"),
        ({"hidden_dim": 8.0}, "sLSTMConfig.hidden_dim must be an integer .* got 8.0"),
        ({"num_heads": -1}, "sLSTMConfig.num_heads must be an integer .* got -1"),
        (
            {"hidden_dim": 65},
            "sLSTMConfig.hidden_dim must be divisible by num_heads, got hidden_dim=65, num_heads=4",
        ),
        (
            {"hidden_dim": 4},
            "sLSTMConfig.hidden_dim must be at least twice num_heads.* hidden_dim=4, num_heads=4",
        ),
        ({"kernel_size": 1}, "sLSTMConfig.kernel_size must be an integer of at least 2, got 1"),
        ({"kernel_size": 0}, "sLSTMConfig.kernel_size must be an integer of at least 2, got 0"),
        ({"kernel_size": 4.0}, "sLSTMConfig.kernel_size must be an integer .* 2, got 4.0"),
    ],
)
def test_bad_field_is_named(fields, words):
    with pytest.raises(ValueError, match=words):
        sLSTMConfig(**{"features": 64, "hidden_dim": 64, "num_heads": 4} | fields)
