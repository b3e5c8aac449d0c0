import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax.networks import (
    RNN,
    ChronoGRUCell,
    ChronoLSTMCell,
    MinGRUCell,
    MinGRUConfig,
    mLSTMConfig,
    sLSTMConfig,
)

INPUTS = jnp.zeros((1, 5))
LENGTHS = np.linspace(1, 99, 16)


def params(cell):
    carry = cell.initialize_carry(jax.random.key(0), INPUTS.shape)
    return cell.init(jax.random.key(0), carry, INPUTS)["params"]


def test_a_grus_gate_keeps_the_state_for_lengths_up_to_the_horizon():
    gates = params(ChronoGRUCell(16, memory_horizon=100))
    kept = jax.nn.sigmoid(gates["iz"]["bias"])
    np.testing.assert_allclose(1 / (1 - kept), LENGTHS + 1, rtol=1e-4)
    assert not any(gates[name]["bias"].any() for name in ("ir", "in", "hn"))


def test_an_lstm_writes_as_much_as_it_forgets():
    gates = params(ChronoLSTMCell(16, memory_horizon=100))
    np.testing.assert_allclose(gates["hf"]["bias"], np.log(LENGTHS), rtol=1e-5)
    np.testing.assert_array_equal(gates["hi"]["bias"], -gates["hf"]["bias"])
    assert not any(gates[name]["bias"].any() for name in ("hg", "ho"))


def test_a_min_gru_writes_rarely():
    cell = MinGRUCell(MinGRUConfig(16, memory_horizon=100))
    variables = cell.init(
        jax.random.key(0),
        jnp.zeros((1, 2, 5)),
        jnp.zeros((1, 2), bool),
        jnp.zeros((1, 16)),
        "sequential",
        None,
    )
    np.testing.assert_allclose(variables["params"]["gate"]["bias"], -np.log(LENGTHS), rtol=1e-5)


@pytest.mark.parametrize(
    ("cell", "plain"), [(ChronoGRUCell, nn.GRUCell), (ChronoLSTMCell, nn.LSTMCell)]
)
def test_only_the_first_biases_differ_from_flax(cell, plain):
    inputs = jax.random.normal(jax.random.key(1), (2, 4, 5))
    chrono = RNN(cell(8, memory_horizon=10))
    variables = chrono.init(jax.random.key(0), inputs)
    flax = RNN(plain(8))
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(
        jnp.shape, flax.init(jax.random.key(0), inputs)
    )
    np.testing.assert_array_equal(
        chrono.apply(variables, inputs)[1], flax.apply(variables, inputs)[1]
    )


@pytest.mark.parametrize("horizon", [1, 0, -3, float("inf"), "long"])
@pytest.mark.parametrize(
    "make",
    [
        lambda horizon: ChronoGRUCell(8, memory_horizon=horizon),
        lambda horizon: ChronoLSTMCell(8, memory_horizon=horizon),
        lambda horizon: MinGRUConfig(8, memory_horizon=horizon),
        lambda horizon: mLSTMConfig(8, 8, 2, memory_horizon=horizon),
        lambda horizon: sLSTMConfig(8, 8, 2, memory_horizon=horizon),
    ],
)
def test_a_horizon_below_two_steps_is_refused(make, horizon, as_a_user):
    with pytest.raises(ValueError, match=r"memory_horizon must be a .*number of at least 2, got"):
        make(horizon)


def test_a_horizon_needs_biases(as_a_user):
    with pytest.raises(ValueError, match="memory_horizon sets biases and needs use_bias=True"):
        MinGRUConfig(8, use_bias=False, memory_horizon=10)
