import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax.networks import RNN
from tests.networks.samples import draw

INPUTS = jax.random.normal(jax.random.key(0), (3, 11, 5))


def forward_and_gradients(model, params, initial_carry):
    def loss(params, inputs, initial_carry):
        forward = model.apply(params, inputs, initial_carry=initial_carry)
        return sum(jnp.sin(3 * leaf).sum() for leaf in jax.tree.leaves(forward)), forward

    differentiate = jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))
    return differentiate(params, INPUTS, initial_carry)


def assert_like_flax(cell, tolerance, initial_carry=None):
    ours, flax = RNN(cell=cell), nn.RNN(cell, return_carry=True)
    shapes = jax.eval_shape(flax.init, jax.random.key(1), INPUTS)
    assert jax.eval_shape(ours.init, jax.random.key(1), INPUTS) == shapes
    params = draw(shapes)
    actual, expected = (
        forward_and_gradients(model, params, initial_carry) for model in (ours, flax)
    )
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        scale = float(jnp.abs(other).max())
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * scale, equal_nan=False)


@pytest.mark.parametrize("cell", [nn.GRUCell, nn.LSTMCell, nn.OptimizedLSTMCell, nn.SimpleCell])
def test_parameters_values_and_gradients_are_those_of_flax(cell):
    cell = cell(features=6)
    fresh = cell.initialize_carry(jax.random.key(0), (INPUTS.shape[0], INPUTS.shape[-1]))
    assert_like_flax(cell, 1e-5, initial_carry=draw(fresh))


@pytest.mark.parametrize(
    "cell",
    [
        nn.GRUCell(features=6, activation_fn=nn.relu),
        nn.LSTMCell(features=6, gate_fn=nn.hard_sigmoid),
        nn.GRUCell(features=6, carry_init=nn.initializers.ones),
    ],
    ids=["gru_activation", "lstm_gate", "gru_carry"],
)
def test_cells_with_other_functions_are_those_of_flax_too(cell):
    assert_like_flax(cell, 1e-5)


# The rounding of either is as large as their difference.
@pytest.mark.parametrize("cell", [nn.GRUCell, nn.LSTMCell])
def test_half_precision_is_that_of_flax(cell):
    assert_like_flax(cell(features=6, dtype=jnp.bfloat16), 3e-2)


@pytest.mark.parametrize("cell", [nn.GRUCell, nn.LSTMCell, nn.SimpleCell])
def test_half_precision_remembers_in_float32(cell):
    model = RNN(cell=cell(features=6, dtype=jnp.bfloat16))
    (carry, _), _ = jax.eval_shape(model.init_with_output, jax.random.key(1), INPUTS)
    assert {leaf.dtype for leaf in jax.tree.leaves(carry)} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"cell": nn.GRUCell}, "RNN.cell must be an instance of .*RNNCellBase.*GRUCell"),
        ({"cell": nn.Dense(3)}, "RNN.cell must be an instance of .*RNNCellBase.*Dense"),
        (
            {"cell": nn.ConvLSTMCell(3, (2, 2))},
            "RNN.cell must read feature vectors, got ConvLSTMCell with 3 feature axes",
        ),
        (
            {"cell": nn.GRUCell(3), "unroll": 0},
            "RNN.unroll must be an integer of at least 1, got 0",
        ),
    ],
    ids=["class", "no_cell", "convolutional_cell", "unroll_0"],
)
def test_what_is_no_cell_is_refused(fields, words, as_a_user):
    with pytest.raises(ValueError, match=words):
        RNN(**fields)


@pytest.mark.parametrize(
    ("inputs", "arguments", "words"),
    [
        (
            INPUTS,
            {"done": jnp.zeros((3, 5), bool)},
            r"RNN: done must have shape \(batch, time\) = \(3, 11\), got \(3, 5\)",
        ),
        (
            INPUTS,
            {"done": jnp.zeros((3, 11))},
            "RNN: done must have dtype bool, got float32",
        ),
        (INPUTS.astype(int), {}, "RNN reads floating-point inputs, got dtype int32"),
        (INPUTS[0], {}, r"RNN reads inputs of shape \(batch, time, features\), got \(11, 5\)"),
        (INPUTS[:, :0], {}, r"RNN needs at least one row, step and feature, got \(3, 0, 5\)"),
        (
            INPUTS,
            {"initial_carry": jnp.zeros((2, 6))},
            r"RNN: initial_carry must be like .*float32\[3, 6\], got float32\[2, 6\]",
        ),
        (
            INPUTS,
            {"initial_carry": (jnp.zeros((3, 6)), jnp.zeros((3, 6)))},
            r"initial_carry must be like .*float32\[3, 6\], got \('float32\[3, 6\]', ",
        ),
        (
            INPUTS,
            {"initial_carry": ()},
            r"initial_carry must be like .*float32\[3, 6\], got \(\)",
        ),
        (
            INPUTS,
            {"initial_carry": jnp.zeros((3, 6), jnp.float16)},
            r"initial_carry must be like .*float32\[3, 6\], got float16\[3, 6\]",
        ),
    ],
    ids=[
        "done_of_another_time",
        "done_of_floats",
        "inputs_of_integers",
        "inputs_without_batch",
        "time_0",
        "carry_of_another_batch",
        "carry_of_an_lstm",
        "carry_of_a_plain_module",
        "carry_of_another_dtype",
    ],
)
def test_inputs_that_do_not_fit_are_refused(inputs, arguments, words, as_a_user):
    model = RNN(cell=nn.GRUCell(features=6))
    params = jax.eval_shape(model.init, jax.random.key(0), INPUTS)
    with pytest.raises(ValueError, match=words):
        jax.eval_shape(lambda params: model.apply(params, inputs, **arguments), params)
