import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax.networks import RNN
from memorax.networks.cells.shm import SHMCell, SHMConfig
from tests.golden.cases import TOLERANCES, assert_golden, cast, load

CASE = load("shm")


class SHMCellWithGivenRows(SHMCell):
    """Take the row of theta from the last input feature."""

    def __call__(self, carry, inputs):
        return self.step(carry, inputs[..., :-1], inputs[..., -1].astype(int))


def parameters():
    denses = {
        "key": "Wk",
        "query": "Wq",
        "value": "Wv",
        "calibration": "Wc",
        "update_gate": "Weta",
        "output_projection": "Wout",
    }
    mapped = {name: {"kernel": CASE[f"param_{key}"].T} for name, key in denses.items()}
    mapped["output_projection"]["bias"] = CASE["param_bout"]
    mapped["norm"] = {"scale": CASE["param_ln_w"], "bias": CASE["param_ln_b"]}
    mapped["theta"] = CASE["param_theta"]
    return mapped


def run(cell, inputs, done, initial_carry, dtype):
    num_calibrations, hidden_dim = CASE["param_theta"].shape
    features = CASE["param_bout"].size
    config = SHMConfig(features, hidden_dim, num_calibrations, max_memory=None)
    variables = {"params": {"cell": cast(parameters(), dtype)}}
    model = RNN(cell=cell(config, param_dtype=dtype))
    return jax.jit(model.apply)(variables, cast(inputs, dtype), done, cast(initial_carry, dtype))


@pytest.fixture(params=TOLERANCES, ids=lambda dtype: dtype.__name__)
def dtype(request):
    with jax.enable_x64(request.param is np.float64):
        yield request.param


def test_cell_without_key_computes_what_the_authors_does(dtype):
    actual = run(SHMCell, CASE["x"], None, None, dtype)
    assert_golden(actual, (CASE["M_T_row0"], CASE["y_row0"]), dtype)
    actual = run(SHMCell, CASE["x2"], None, CASE["M_T_row0"], dtype)
    assert_golden(actual, (CASE["M_T2_row0"], CASE["y2_row0"]), dtype)


def test_cell_with_given_rows_computes_what_the_authors_does(dtype):
    inputs = np.concatenate([CASE["x"], CASE["theta_idx"][..., None]], axis=-1)
    actual = run(SHMCellWithGivenRows, inputs, None, None, dtype)
    assert_golden(actual, (CASE["M_T_idx"], CASE["y_idx"]), dtype)
    done = jnp.asarray(CASE["start"])
    actual = run(SHMCellWithGivenRows, inputs, done, CASE["M_T_row0"], dtype)
    assert_golden(actual, (CASE["M_reset"], CASE["y_reset"]), dtype)
