"""Where memoroid cells begin, and what they refuse."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax.networks import (
    RNN,
    DeltaNetConfig,
    FFMCell,
    FFMConfig,
    GatedDeltaNetConfig,
    GatedLinearAttentionConfig,
    KimiDeltaAttentionConfig,
    LinearAttentionConfig,
    LRUCell,
    LRUConfig,
    Mamba2Cell,
    Mamba2Config,
    Mamba3Config,
    Memoroid,
    MinGRUCell,
    MinGRUConfig,
    MonoidCell,
    RGLRUConfig,
    RTUCell,
    RTUConfig,
    RWKV7Config,
    S5Cell,
    S5Config,
    mLSTMCell,
    mLSTMConfig,
)
from memorax.networks.cells.s5 import hippo_normal
from tests.golden.cases import load

INPUTS = jnp.ones((2, 3, 5))


def first_parameters(cell):
    return jax.jit(Memoroid(cell=cell).init)(jax.random.key(0), INPUTS)["params"]["cell"]


def assert_uniform(values, low, high):
    """Compare with the uniform distribution by Kolmogorov and Smirnov's distance."""
    values = np.sort((np.asarray(values, np.float64).ravel() - low) / (high - low))
    assert values[0] >= -1e-5
    assert values[-1] <= 1 + 1e-5
    distance = np.abs(values - (np.arange(values.size) + 0.5) / values.size).max()
    assert distance < 1.95 / values.size**0.5


def test_lru_begins_on_a_ring_and_keeps_the_variance():
    params = first_parameters(
        LRUCell(LRUConfig(8, hidden_dim=4096, r_min=0.4, r_max=0.9, max_phase=3.0))
    )
    r = np.exp(-np.exp(np.asarray(params["nu_log"], np.float64)))
    assert_uniform(r**2, 0.4**2, 0.9**2)
    assert_uniform(np.exp(params["theta_log"]), 0, 3)
    np.testing.assert_allclose(np.exp(params["gamma_log"]), np.sqrt(1 - r**2), rtol=1e-4)
    assert np.std(params["B"]) == pytest.approx((2 * 8) ** -0.5, rel=0.03)
    assert np.std(params["C"]) == pytest.approx(4096**-0.5, rel=0.03)


def test_s5_begins_from_the_hippo_matrix():
    case = load("s5")
    eigenvalues, eigenvectors = hippo_normal(8)
    np.testing.assert_allclose(eigenvalues, case["hippo_Lambda"], atol=1e-12)
    normal = case["hippo_A"] + np.outer(case["hippo_P"], case["hippo_P"])
    rebuilt = eigenvectors @ np.diag(eigenvalues) @ eigenvectors.conj().T
    np.testing.assert_allclose(rebuilt, normal, atol=1e-12)

    params = first_parameters(S5Cell(S5Config(64, hidden_dim=256)))
    half, _ = hippo_normal(256)
    np.testing.assert_allclose(params["Lambda_real"], half.real[:128], rtol=1e-5)
    np.testing.assert_allclose(params["Lambda_imag"], half.imag[:128], rtol=1e-5)
    assert_uniform(params["log_step"], math.log(0.001), math.log(0.1))
    # Unitary eigenvectors keep what was drawn: B of variance 1 / N, both parts of C as well.
    assert np.mean(np.square(params["B"])) * 2 == pytest.approx(1 / 256, rel=0.05)
    assert np.mean(np.square(params["C"])) == pytest.approx(1 / 256, rel=0.05)
    assert np.std(params["D"]) == pytest.approx(1, rel=0.3)


def test_mamba2_begins_with_the_authors_steps_and_decays():
    params = first_parameters(Mamba2Cell(Mamba2Config(8, num_heads=2048, head_dim=1)))
    step = np.log1p(np.exp(np.asarray(params["dt_bias"], np.float64)))
    assert_uniform(np.log(step), math.log(0.001), math.log(0.1))
    assert_uniform(np.exp(params["A_log"]), 1, 16)
    np.testing.assert_array_equal(params["D"], 1)
    np.testing.assert_array_equal(params["norm"], 1)
    assert_uniform(params["convolution"]["kernel"], -0.5, 0.5)


def test_mlstm_begins_with_forget_gates_open():
    params = first_parameters(mLSTMCell(mLSTMConfig(8, hidden_dim=256, num_heads=64)))
    input_gates, forget_gates = np.split(np.asarray(params["gates"]["bias"]), 2)
    np.testing.assert_array_equal(params["gates"]["kernel"], 0)
    np.testing.assert_allclose(forget_gates, np.linspace(3, 6, 64), rtol=1e-6)
    assert np.std(input_gates) == pytest.approx(0.1, rel=0.3)
    for name in ("up", "query", "key", "value"):
        deviation = np.std(params[name]["kernel"])
        assert deviation == pytest.approx((2 / (5 * 5)) ** 0.5, rel=0.1)
    np.testing.assert_array_equal(params["skip"], 1)
    np.testing.assert_array_equal(params["norm"], 0)


def test_ffm_begins_with_the_authors_decays_and_frequencies():
    case = load("ffm")
    params = first_parameters(FFMCell(FFMConfig(5, 6, 4, max_period=64.0)))
    np.testing.assert_allclose(params["a"], case["default_a"], rtol=1e-5)
    np.testing.assert_allclose(params["b"], case["default_b"], rtol=1e-5)


@pytest.mark.parametrize(
    ("config", "fields", "words"),
    [
        (LRUConfig, {"features": 0, "hidden_dim": 4}, "LRUConfig.features .* at least 1, got 0"),
        (LRUConfig, {"features": 4, "hidden_dim": 4, "r_min": 0.9, "r_max": 0.5}, "r_min must be"),
        (S5Config, {"features": 4, "hidden_dim": 5}, "must be even with conjugate_symmetry, got"),
        (
            S5Config,
            {"features": 4, "hidden_dim": 4, "discretization": "zho"},
            "S5Config.discretization: unknown discretization 'zho'; the closest are: zoh",
        ),
        (S5Config, {"features": 4, "hidden_dim": 4, "min_step": 0.5}, "max_step must be a number"),
        (MinGRUConfig, {"features": -1}, "MinGRUConfig.features .* got -1"),
        (FFMConfig, {"features": 4, "memory_size": 0}, "FFMConfig.memory_size .* got 0"),
        (
            *(FFMConfig, {"features": 4, "period_spacing": "log"}),
            "FFMConfig.period_spacing must be one of linear, logarithmic, got 'log'",
        ),
        (FFMConfig, {"features": 1}, "FFMConfig.features .* at least 2, got 1"),
        (FFMConfig, {"features": 4, "max_period": 0.5}, "FFMConfig.max_period must be a number"),
        (Mamba2Config, {"features": 4, "num_groups": 3}, "num_heads=8, num_groups=3"),
        (Mamba2Config, {"features": 4, "kernel_size": 0}, "Mamba2Config.kernel_size .* got 0"),
        (
            *(DeltaNetConfig, {"features": 65}),
            "DeltaNetConfig.features must be divisible by num_heads .* features=65, num_heads=4",
        ),
        (DeltaNetConfig, {"features": 8, "key_dim": 0}, "DeltaNetConfig.key_dim .* got 0"),
        (DeltaNetConfig, {"features": 8, "kernel_size": 0}, "DeltaNetConfig.kernel_size .* got 0"),
        (
            *(DeltaNetConfig, {"features": 8, "max_beta": 2.5}),
            r"DeltaNetConfig.max_beta must be a number from 0\.001 to 2, got 2\.5",
        ),
        (
            *(GatedDeltaNetConfig, {"features": 8, "num_value_heads": 6}),
            "num_value_heads must be a multiple of num_heads, got num_value_heads=6, num_heads=4",
        ),
        (
            *(GatedDeltaNetConfig, {"features": 8, "min_step": 0.5}),
            "GatedDeltaNetConfig.max_step must be a number of at least 0.5",
        ),
        (KimiDeltaAttentionConfig, {"features": 8, "rank": 0}, "rank .* got 0"),
        (
            *(KimiDeltaAttentionConfig, {"features": 8, "min_log_decay": 1.0}),
            r"min_log_decay must be a number from -80 to -0\.001, got 1",
        ),
        (
            *(GatedLinearAttentionConfig, {"features": 8, "decay": "learned"}),
            "GatedLinearAttentionConfig.decay must be one of gated, fixed, got 'learned'",
        ),
        (RWKV7Config, {"features": 6}, "RWKV7Config.features must be divisible by num_heads"),
        (RWKV7Config, {"features": 4}, "RWKV7Config.head_dim must be at least 2"),
        (RWKV7Config, {"features": 8, "gate_rank": 0}, "RWKV7Config.gate_rank .* got 0"),
        (RGLRUConfig, {"features": 6}, "divisible by num_heads, got hidden_dim=6, num_heads=4"),
        (Mamba3Config, {"features": 4, "num_groups": 3}, "num_heads=8, num_groups=3"),
        (Mamba3Config, {"features": 4, "state_dim": 2}, "must leave a pair to rotate"),
        (
            *(Mamba3Config, {"features": 4, "decay_activation": "softpuls"}),
            "Mamba3Config.decay_activation: unknown .* closest are: softplus",
        ),
        (
            mLSTMConfig,
            {"features": 4, "hidden_dim": 64, "num_heads": 5},
            "divisible by num_heads, got hidden_dim=64, num_heads=5",
        ),
        (
            mLSTMConfig,
            {"features": 4, "hidden_dim": 6, "num_heads": 2},
            "divisible by block_size, got hidden_dim=6, block_size=4",
        ),
        (
            mLSTMConfig,
            {"features": 4, "hidden_dim": 4, "num_heads": 4},
            "a head of a single channel is always 0, got hidden_dim=4, num_heads=4",
        ),
        (
            LinearAttentionConfig,
            {"features": 4, "num_heads": 2, "head_dim": 0},
            "LinearAttentionConfig.head_dim .* got 0",
        ),
    ],
)
def test_sizes_that_make_no_sense_are_refused(config, fields, words, as_a_user):
    with pytest.raises(ValueError, match=words):
        config(**fields)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"cell": RTUCell(RTUConfig(4, 4))},
            r"RTUCell, which computes a single step: use RNN\(cell=RTUCell",
        ),
        ({"cell": MinGRUCell}, "Memoroid.cell must be an instance of MemoroidCell"),
        (
            {"cell": MinGRUCell(MinGRUConfig(4)), "implementation": "sequental"},
            "Memoroid.implementation of MinGRUCell: unknown .* closest are: sequential",
        ),
        (
            {"cell": MinGRUCell(MinGRUConfig(4)), "chunk_size": 0},
            r"Memoroid\.chunk_size must be an integer of at least 1, got 0",
        ),
        (
            {"cell": MonoidCell(), "chunk_size": 4},
            r"Memoroid\.chunk_size: MonoidCell is not run in chunks, got 4",
        ),
    ],
)
def test_what_is_no_memoroid_is_refused(fields, words, as_a_user):
    with pytest.raises(ValueError, match=words):
        Memoroid(**fields)


def test_a_memoroid_cell_is_refused_where_a_recurrent_one_is_due(as_a_user):
    with pytest.raises(
        ValueError, match=r"RNN\.cell must be an instance of flax\.linen\.RNNCellBase"
    ):
        RNN(cell=MinGRUCell(MinGRUConfig(4)))


@pytest.mark.parametrize(
    ("inputs", "initial_carry", "words"),
    [
        (INPUTS.astype(int), None, "Memoroid reads floating-point inputs, got dtype int32"),
        (INPUTS[:, :0], None, r"Memoroid needs at least one row, step and feature, got \(2, 0, 5"),
        (
            INPUTS,
            jnp.zeros((3, 4)),
            r"initial_carry must be like .*float32\[2, 4\], got .*\[3, 4\]",
        ),
        (INPUTS, (), r"initial_carry must be like .*float32\[2, 4\], got \(\)"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(inputs, initial_carry, words, as_a_user):
    model = Memoroid(cell=MinGRUCell(MinGRUConfig(4)))
    params = jax.eval_shape(model.init, jax.random.key(0), INPUTS)
    with pytest.raises(ValueError, match=words):
        jax.eval_shape(
            lambda params: model.apply(params, inputs, initial_carry=initial_carry), params
        )
