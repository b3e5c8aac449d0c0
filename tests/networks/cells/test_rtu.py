import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax.networks import RNN
from memorax.networks.cells.rtu import RTUCell, RTUConfig
from tests.golden.cases import TOLERANCES, assert_golden
from tests.networks.samples import draw

INPUTS = jax.random.normal(jax.random.key(0), (3, 11, 5))
DONE = jax.random.uniform(jax.random.key(1), (3, 11)) < 0.2


def identity(values):
    return values


def oracle(cell, carry, activation):
    """Step through the complex recurrence in float64, row by row."""
    cell = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), cell)
    r = np.exp(-np.exp(cell["nu_log"]))
    turn = r * np.exp(1j * np.exp(cell["theta_log"]))
    w_1, w_2 = np.split(cell["input_projection"]["kernel"], 2, axis=1)
    final, outputs = [], np.zeros((3, 11, 6))
    for row in range(3):
        h = np.asarray(carry[0][row], np.float64) + 1j * np.asarray(carry[1][row], np.float64)
        for time in range(11):
            if DONE[row, time]:
                h = np.zeros_like(h)
            x = np.asarray(INPUTS[row, time], np.float64)
            h = turn * h + np.sqrt(1 - r**2) * (x @ w_1 + 1j * (x @ w_2))
            h = activation(h.real) + 1j * activation(h.imag)
            read = np.concatenate([h.real, h.imag]) @ cell["output_projection"]["kernel"]
            outputs[row, time] = read + cell["output_projection"]["bias"]
        final.append(h)
    return (np.real(final), np.imag(final)), outputs


@pytest.mark.parametrize("dtype", TOLERANCES, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize(
    ("activation", "same"),
    [(jnp.tanh, np.tanh), (identity, identity), (jax.nn.relu, lambda x: np.maximum(x, 0))],
    ids=["tanh", "linear", "relu"],
)
def test_cell_turns_and_decays_a_complex_number(activation, same, dtype):
    with jax.enable_x64(dtype is np.float64):
        config = RTUConfig(features=6, hidden_dim=7, activation=activation)
        model = RNN(cell=RTUCell(config, param_dtype=dtype))
        inputs = INPUTS.astype(dtype)
        variables = draw(jax.eval_shape(model.init, jax.random.key(1), inputs))
        carry = draw(model.initialize_carry(jax.random.key(0), (3, 5)))
        actual = jax.jit(model.apply)(variables, inputs, DONE, carry)
        assert_golden(actual, oracle(variables["params"]["cell"], carry, same), dtype)


def test_half_precision_remembers_in_float32():
    model = RNN(cell=RTUCell(RTUConfig(features=6, hidden_dim=7), dtype=jnp.bfloat16))
    (carry, _), _ = jax.jit(model.init_with_output)(jax.random.key(1), INPUTS)
    for leaf in carry:
        assert leaf.dtype == jnp.float32
        assert (leaf != leaf.astype(jnp.bfloat16).astype(jnp.float32)).any()


def initial_eigenvalues(**fields):
    config = RTUConfig(features=6, hidden_dim=4096, **fields)
    model = RNN(cell=RTUCell(config))
    cell = jax.jit(model.init)(jax.random.key(1), INPUTS)["params"]["cell"]
    nu = np.exp(np.asarray(cell["nu_log"], np.float64))
    return np.exp(-nu), np.exp(np.asarray(cell["theta_log"], np.float64))


def test_initial_eigenvalues_are_uniform_over_a_ring():
    r, theta = initial_eigenvalues(r_min=0.4, r_max=0.9, max_phase=math.pi)
    assert r.min() >= 0.4 - 1e-6
    assert r.max() <= 0.9 + 1e-6
    quarters = np.linspace(0.4**2, 0.9**2, 5)
    np.testing.assert_allclose(np.histogram(r**2, quarters)[0] / r.size, 0.25, atol=0.03)
    quarters = np.linspace(0, math.pi, 5)
    np.testing.assert_allclose(np.histogram(theta, quarters)[0] / theta.size, 0.25, atol=0.03)


def test_initial_eigenvalues_fill_the_disk_by_default():
    r, theta = initial_eigenvalues()
    np.testing.assert_allclose((r**2).mean(), 0.5, atol=0.03)
    np.testing.assert_allclose(theta.mean(), math.pi, rtol=0.05)


@pytest.mark.parametrize(("r_min", "r_max"), [(0.0, 1e-5), (0.999, 1.0), (1 - 1e-9, 1.0)])
def test_gradients_are_finite_for_extreme_rings(r_min, r_max):
    config = RTUConfig(features=6, hidden_dim=512, r_min=r_min, r_max=r_max)
    model = RNN(cell=RTUCell(config))

    @jax.jit
    @jax.grad
    def slopes(variables):
        return model.apply(variables, INPUTS)[1].sum()

    variables = jax.jit(model.init)(jax.random.key(1), INPUTS)
    gradients = slopes(variables)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((variables, gradients)))


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"features": 0}, "RTUConfig.features must be an integer of at least 1, got 0"),
        ({"hidden_dim": "8"}, "RTUConfig.hidden_dim must be an integer .* got '8'"),
        ({"activation": "tanh"}, "RTUConfig.activation must be a function .* got 'tanh'"),
        ({"r_min": -0.1}, "RTUConfig.r_min must be a number from 0 to 1, got -0.1"),
        ({"r_max": 1.1}, "RTUConfig.r_max must be a number from 0 to 1, got 1.1"),
        ({"r_min": 0.9, "r_max": 0.5}, "RTUConfig.r_min must be below r_max, .*0.9, r_max=0.5"),
        ({"max_phase": 7}, "RTUConfig.max_phase must be a number from 0 to 6.28.*, got 7"),
        ({"max_phase": 0}, "RTUConfig.max_phase must be above 0, .* got 0"),
    ],
)
def test_bad_field_is_named(fields, words):
    with pytest.raises(ValueError, match=words):
        RTUConfig(**{"features": 6, "hidden_dim": 8} | fields)
