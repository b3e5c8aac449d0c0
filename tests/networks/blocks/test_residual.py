import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax.networks import FFN, RNN, GatedResidual, Residual
from memorax.networks.blocks.residual import GATES
from tests.networks.samples import draw_params

INPUTS = jax.random.normal(jax.random.key(0), (2, 4, 5))
DONE = jnp.zeros((2, 4), bool).at[1, 2].set(True)
MEMORY = RNN(cell=nn.GRUCell(features=5))


def test_residual_adds_outputs_to_inputs_and_keeps_the_memorys_carry():
    model = Residual(MEMORY)
    params = draw_params(model, INPUTS)
    carry, outputs = model.apply(params, INPUTS, DONE)
    expected_carry, expected = MEMORY.apply({"params": params["params"]["module"]}, INPUTS, DONE)
    np.testing.assert_array_equal(outputs, INPUTS + expected)
    np.testing.assert_array_equal(carry, expected_carry)
    np.testing.assert_array_equal(
        model.initialize_carry(jax.random.key(0), (2, 1)), jnp.zeros((2, 5))
    )


def test_callables_are_wrapped_too():
    carry, outputs = Residual(jnp.tanh).apply({}, INPUTS)
    assert carry == ()
    np.testing.assert_array_equal(outputs, INPUTS + jnp.tanh(INPUTS))


@pytest.mark.parametrize("gate", GATES)
def test_a_large_bias_closes_the_gate(gate):
    model = GatedResidual(nn.Dense(5), gate, gate_bias=50.0)
    _, outputs = model.apply(model.init(jax.random.key(0), INPUTS), INPUTS)
    near = np.allclose(outputs, INPUTS, atol=1e-6)
    assert near == (gate != "input")


def test_the_gate_reads_outputs_behind_the_papers_relu():
    silent = GatedResidual(lambda x: -jnp.ones_like(x), "output")
    params = draw_params(silent, INPUTS)
    np.testing.assert_array_equal(silent.apply(params, INPUTS)[1], INPUTS)


@pytest.mark.parametrize("block", [Residual, GatedResidual])
def test_outputs_of_another_width_are_refused_by_both_shapes(block):
    words = rf"{block.__name__} needs .* inputs of shape \(2, 4, 5\) .* of shape \(2, 4, 7\) .* FFN"
    with pytest.raises(ValueError, match=words):
        jax.eval_shape(block(FFN(7)).init, jax.random.key(0), INPUTS)


@pytest.mark.parametrize("block", [Residual, GatedResidual])
@pytest.mark.parametrize(
    ("module", "words"),
    [
        (3, "module must be a Flax module or a callable, got 3"),
        (None, "module must be a Flax module or a callable, got None"),
        (nn.Dense, "module must be an instance of a module, got the class Dense"),
        (nn.GRUCell(5), "module must be a sequence model, got the cell GRUCell"),
    ],
)
def test_what_is_neither_module_nor_callable_is_named(block, module, words):
    with pytest.raises(ValueError, match=f"{block.__name__}.{words}"):
        block(module)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"gate": "grue"}, "GatedResidual.gate: unknown gate 'grue'; the closest are: gru"),
        ({"gate_bias": "2"}, "GatedResidual.gate_bias must be a number"),
    ],
)
def test_bad_field_is_named(fields, words, as_a_user):
    with pytest.raises(ValueError, match=words):
        GatedResidual(nn.Dense(5), **fields)


def test_a_carry_of_another_model_is_refused():
    with pytest.raises(ValueError, match=r"Residual: initial_carry must be like"):
        Residual(nn.Dense(5)).init(jax.random.key(0), INPUTS, DONE, jnp.zeros((2, 5)))
