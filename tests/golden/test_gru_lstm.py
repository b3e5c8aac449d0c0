import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax.networks import RNN
from tests.golden.cases import assert_golden, load

CASE = load("gru_lstm")


def gru():
    """Map the oracle's parameters onto Flax's, which has the biases of r and z once."""
    (w, u, b, c) = (CASE[f"gru_param_{name}"] for name in ("Wx", "Wh", "bx", "bh"))
    features = CASE["gru_h_T"].shape[-1]
    b = np.concatenate([(b + c)[: 2 * features], b[2 * features :]])
    gates = dict(zip("rzn", zip(*(np.split(x, 3) for x in (w, u, b, c)), strict=True), strict=True))
    params = {f"i{gate}": {"kernel": w.T, "bias": b} for gate, (w, _, b, _) in gates.items()}
    params |= {f"h{gate}": {"kernel": u.T} for gate, (_, u, _, _) in gates.items()}
    params["hn"]["bias"] = gates["n"][3]
    return nn.GRUCell, features, params


def lstm():
    """Map the oracle's parameters onto Flax's, which has one bias a gate."""
    (w, u, b, c) = (CASE[f"lstm_param_{name}"] for name in ("Wx", "Wh", "bx", "bh"))
    features = CASE["lstm_h_T"].shape[-1]
    gates = dict(
        zip("ifgo", zip(*(np.split(x, 4) for x in (w, u, b + c)), strict=True), strict=True)
    )
    params = {f"i{gate}": {"kernel": w.T} for gate, (w, _, _) in gates.items()}
    params |= {f"h{gate}": {"kernel": u.T, "bias": b} for gate, (_, u, b) in gates.items()}
    return nn.LSTMCell, features, params


def carry_of(name, suffix):
    parts = ("h",) if name == "gru" else ("c", "h")
    carry = tuple(CASE[f"{name}_{part}_{suffix}"] for part in parts)
    return carry[0] if name == "gru" else carry


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", [gru, lstm])
def test_fresh_continued_and_with_resets(case, dtype):
    name = case.__name__
    with jax.enable_x64(dtype is np.float64):
        cell, features, params = case()
        model = RNN(cell(features=features, param_dtype=dtype))
        cast = lambda tree: jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)  # noqa: E731
        params = {"params": {"cell": cast(params)}}
        last = cast(carry_of(name, "T"))
        for inputs, done, start, outputs, end in (
            ("x", None, None, "y", "T"),
            ("x2", None, last, "y2", "T2"),
            ("x", jnp.asarray(CASE["start"]), last, "y_reset", "reset"),
        ):
            carry, actual = model.apply(params, cast(CASE[inputs]), done, start)
            assert_golden(actual, CASE[f"{name}_{outputs}"], dtype)
            jax.tree.map(
                lambda ours, oracle: assert_golden(ours, oracle, dtype),
                carry,
                carry_of(name, end),
            )
