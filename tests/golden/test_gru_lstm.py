import flax.linen as nn
import jax
import numpy as np
import pytest

from memorax.networks import RNN
from tests.golden.cases import TOLERANCES, assert_golden, cast, load

CASE = load("gru_lstm")


def split_by_gate(model, gates):
    """Return the oracle's parameters gate by gate: Wx, Wh, bx, bh."""
    arrays = [CASE[f"{model}_param_{name}"] for name in ("Wx", "Wh", "bx", "bh")]
    by_gate = zip(*(np.split(array, len(gates)) for array in arrays), strict=True)
    return dict(zip(gates, by_gate, strict=True))


def gru_parameters():
    """Map onto Flax's, which has the biases of r and z once and both of n."""
    parameters = {}
    for gate, (w, u, b, c) in split_by_gate("gru", "rzn").items():
        parameters[f"i{gate}"] = {"kernel": w.T, "bias": b if gate == "n" else b + c}
        parameters[f"h{gate}"] = {"kernel": u.T} | ({"bias": c} if gate == "n" else {})
    return parameters


def lstm_parameters():
    """Map onto Flax's, which has one bias a gate, beside the recurrent kernel."""
    parameters = {}
    for gate, (w, u, b, c) in split_by_gate("lstm", "ifgo").items():
        parameters[f"i{gate}"] = {"kernel": w.T}
        parameters[f"h{gate}"] = {"kernel": u.T, "bias": b + c}
    return parameters


def gru_carry(suffix):
    return CASE[f"gru_h_{suffix}"]


def lstm_carry(suffix):
    return CASE[f"lstm_c_{suffix}"], CASE[f"lstm_h_{suffix}"]


@pytest.mark.parametrize("dtype", TOLERANCES, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize(
    ("name", "cell", "parameters", "carry"),
    [
        ("gru", nn.GRUCell, gru_parameters, gru_carry),
        ("lstm", nn.LSTMCell, lstm_parameters, lstm_carry),
        ("lstm", nn.OptimizedLSTMCell, lstm_parameters, lstm_carry),
    ],
    ids=["GRUCell", "LSTMCell", "OptimizedLSTMCell"],
)
def test_cell_computes_what_torch_does(name, cell, parameters, carry, dtype):
    with jax.enable_x64(dtype is np.float64):
        hidden_dim = CASE[f"{name}_h_T"].shape[-1]
        model = RNN(cell=cell(features=hidden_dim, param_dtype=dtype))
        variables = {"params": {"cell": cast(parameters(), dtype)}}
        runs = {
            "fresh": ("x", None, None, "y", "T"),
            "continued": ("x2", None, "T", "y2", "T2"),
            "with resets": ("x", jax.numpy.asarray(CASE["start"]), "T", "y_reset", "reset"),
        }
        for inputs, done, start, outputs, end in runs.values():
            initial_carry = None if start is None else cast(carry(start), dtype)
            actual = model.apply(variables, cast(CASE[inputs], dtype), done, initial_carry)
            assert_golden(actual, (carry(end), CASE[f"{name}_{outputs}"]), dtype)
