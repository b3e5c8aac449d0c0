import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax.networks import RNN

CELLS = (nn.GRUCell, nn.LSTMCell, nn.OptimizedLSTMCell, nn.SimpleCell)
INPUTS = jax.random.normal(jax.random.key(0), (3, 11, 5))


def gradients(model, params):
    def loss(params, inputs):
        return sum(jnp.sin(3 * leaf).sum() for leaf in jax.tree.leaves(model.apply(params, inputs)))

    return jax.jit(jax.grad(loss, argnums=(0, 1)))(params, INPUTS)


@pytest.mark.parametrize(
    "cell",
    [
        *(cell(features=6) for cell in CELLS),
        nn.GRUCell(features=6, activation_fn=nn.relu),
        nn.LSTMCell(features=6, gate_fn=nn.hard_sigmoid),
        nn.GRUCell(features=6, carry_init=nn.initializers.ones),
    ],
    ids=lambda cell: type(cell).__name__,
)
def test_parameters_and_meaning_are_those_of_flax(cell):
    ours, flax = RNN(cell=cell), nn.RNN(cell, return_carry=True)
    params = flax.init(jax.random.key(1), INPUTS)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(
        jnp.shape, ours.init(jax.random.key(1), INPUTS)
    )
    params = jax.tree.map(
        lambda leaf: leaf + 0.2 * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), params
    )
    for actual, expected in zip(
        jax.tree.leaves((ours.apply(params, INPUTS), gradients(ours, params))),
        jax.tree.leaves((flax.apply(params, INPUTS), gradients(flax, params))),
        strict=True,
    ):
        np.testing.assert_allclose(actual, expected, atol=1e-5 * float(jnp.abs(expected).max()))


@pytest.mark.parametrize("cell", [nn.GRUCell, nn.LSTMCell])
def test_half_precision_is_that_of_flax(cell):
    ours, flax = (model(cell(features=6, dtype=jnp.bfloat16)) for model in (RNN, nn.RNN))
    params = ours.init(jax.random.key(1), INPUTS)
    carry, outputs = ours.apply(params, INPUTS)
    assert {leaf.dtype for leaf in jax.tree.leaves(carry)} == {jnp.dtype(jnp.float32)}
    np.testing.assert_allclose(outputs, flax.apply(params, INPUTS), atol=3e-2)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"cell": nn.GRUCell}, "RNN.cell must be an instance of .*RNNCellBase.*GRUCell"),
        ({"cell": nn.Dense(3)}, "RNN.cell must be an instance of .*RNNCellBase.*Dense"),
        ({"cell": nn.ConvLSTMCell(3, (2, 2))}, "feature vectors, got ConvLSTMCell with 3"),
        ({"cell": nn.GRUCell(3), "unroll": 0}, "RNN.unroll must be .* at least 1, got 0"),
    ],
)
def test_what_is_no_cell_is_refused(fields, words, as_a_user):
    with pytest.raises(ValueError, match=words):
        RNN(**fields)


@pytest.mark.parametrize(
    ("inputs", "arguments", "words"),
    [
        (INPUTS, {"done": jnp.zeros((3, 5), bool)}, r"shape \(batch, time\) = \(3, 11\).*\(3, 5\)"),
        (INPUTS, {"done": jnp.zeros((3, 11))}, "dtype bool, got float32"),
        (INPUTS.astype(int), {}, "floating-point inputs, got dtype int32"),
        (INPUTS[0], {}, r"\(batch, time, features\), got \(11, 5\)"),
        (INPUTS[:, :0], {}, r"at least one .* step .*\(3, 0, 5\)"),
        (INPUTS, {"initial_carry": jnp.zeros((2, 6))}, r"float32\[3, 6\].*float32\[2, 6\]"),
        (INPUTS, {"initial_carry": ()}, r"initial_carry must be like .*float32\[3, 6\].*\(\)"),
        (INPUTS, {"initial_carry": jnp.zeros((3, 6), jnp.float16)}, r"float32\[3, 6\].*float16"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(inputs, arguments, words, as_a_user):
    model = RNN(cell=nn.GRUCell(features=6))
    params = model.init(jax.random.key(0), INPUTS)
    with pytest.raises(ValueError, match=words):
        model.apply(params, inputs, **arguments)
