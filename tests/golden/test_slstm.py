import jax
import numpy as np
import pytest

from memorax.networks import RNN
from memorax.networks.cells.slstm import sLSTMCell, sLSTMConfig
from tests.golden.cases import TOLERANCES, assert_golden, cast, load

CASE = load("slstm")
GATES = "ifzo"


def parameters(prefix):
    """Map onto ours, the projections around the layer being identities."""
    case = {
        key.removeprefix(f"{prefix}_param_"): array
        for key, array in CASE.items()
        if key.startswith(f"{prefix}_param_")
    }
    hidden_dim = case["norm_w"].size
    heads = case["W_i"].shape[0]
    identity = {"kernel": np.eye(hidden_dim)}
    mapped = {
        "input_projection": identity,
        "output_projection": identity,
        # The oracle's input kernels are [head, out, in], its recurrent ones [head, in, out].
        "input_kernel": np.stack([case[f"W_{gate}"].swapaxes(1, 2) for gate in GATES], axis=2),
        "recurrent_kernel": np.stack([case[f"R_{gate}"] for gate in GATES], axis=2),
        "bias": np.stack([case[f"b_{gate}"].reshape(heads, -1) for gate in GATES]),
        "norm_weight": case["norm_w"],
    }
    if prefix == "conv":
        mapped |= {"conv_kernel": case["conv_w"], "conv_bias": case["conv_b"]}
    return mapped


def carry(prefix, suffix):
    state = tuple(CASE[f"{prefix}_{letter}_{suffix}"] for letter in "cnmh")
    if prefix == "conv":
        # The oracle keeps the oldest row as well, which no later step reads.
        state += (CASE[f"{prefix}_conv_{suffix}"][:, 1:],)
    return state


def model(prefix, dtype):
    heads = CASE[f"{prefix}_param_W_i"].shape[0]
    features = CASE["x"].shape[-1]
    kernel_size = CASE["conv_param_conv_w"].shape[0] if prefix == "conv" else None
    config = sLSTMConfig(features, features, num_heads=heads, kernel_size=kernel_size)
    return RNN(cell=sLSTMCell(config, param_dtype=dtype))


@pytest.mark.parametrize("dtype", TOLERANCES, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("prefix", ["noconv", "conv"])
def test_cell_computes_what_the_authors_layer_does(prefix, dtype):
    with jax.enable_x64(dtype is np.float64):
        apply = jax.jit(model(prefix, dtype).apply)
        variables = {"params": {"cell": cast(parameters(prefix), dtype)}}
        runs = {
            "fresh": ("x", None, None, "y", "T"),
            "continued": ("x2", None, "T", "y2", "T2"),
            "with resets": ("x", jax.numpy.asarray(CASE["start"]), "T", "y_reset", "reset"),
        }
        for inputs, done, start, outputs, end in runs.values():
            initial_carry = None if start is None else cast(carry(prefix, start), dtype)
            actual = apply(variables, cast(CASE[inputs], dtype), done, initial_carry)
            expected = carry(prefix, end), CASE[f"{prefix}_{outputs}"]
            assert_golden(actual, expected, dtype)


@pytest.mark.parametrize("prefix", ["noconv", "conv"])
def test_initial_bias_is_that_of_the_authors_layer(prefix):
    variables = jax.jit(model(prefix, np.float32).init)(
        jax.random.key(0), cast(CASE["x"], np.float32)
    )
    bias = variables["params"]["cell"]["bias"].swapaxes(0, 1)
    assert_golden(bias, CASE[f"{prefix}_default_bias_ifzo"], np.float32)
