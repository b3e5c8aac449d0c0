import flax.linen as nn
import jax
import numpy as np
import pytest

from memorax.networks import GatedResidual
from tests.golden.cases import TOLERANCES, assert_golden, cast, load

CASE = load("gtrxl_gate")
FEATURES = CASE["x"].shape[-1]

GRU = {
    "W_r": {"kernel": CASE["param_w_r"]},
    "U_r": {"kernel": CASE["param_u_r"]},
    "W_z": {"kernel": CASE["param_w_z"]},
    "U_z": {"kernel": CASE["param_u_z"]},
    "W_g": {"kernel": CASE["param_w_h"]},
    "U_g": {"kernel": CASE["param_u_h"]},
    "b_g": CASE["param_bias_z"],
}
W = {"W_g": {"kernel": CASE["Wg"]}}
BIAS = {"b_g": np.full(FEATURES, CASE["bg"])}
GATES = {
    "gru": ("gru", GRU),
    "input": ("input", W),
    "output": ("output", W | BIAS),
    "highway": ("highway", W | BIAS),
    "sigmoid_tanh": ("sigtanh", W | BIAS | {"U_g": {"kernel": CASE["Ug"]}}),
}


@pytest.mark.parametrize("dtype", TOLERANCES, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("gate", GATES)
def test_gate_is_that_of_the_paper(gate, dtype):
    name, params = GATES[gate]
    with jax.enable_x64(dtype is np.float64):
        y = cast(CASE["y"], dtype)
        # The oracle's y is what the gate itself reads.
        model = GatedResidual(lambda x: y, gate, activation=lambda y: y, param_dtype=dtype)
        _, outputs = model.apply(cast({"params": params}, dtype), cast(CASE["x"], dtype))
        assert_golden(outputs, CASE[f"out_{name}"], dtype)


@pytest.mark.parametrize("gate", ["gru", "output", "highway", "sigmoid_tanh"])
def test_bias_begins_as_in_the_paper(gate):
    variables = GatedResidual(nn.Dense(FEATURES), gate).init(
        jax.random.key(0), cast(CASE["x"], np.float32)
    )
    assert_golden(variables["params"]["b_g"], BIAS["b_g"], np.float32)
