"""Recurrences of ``ops.delta_rule`` and its relatives against independent implementations."""

import functools

import jax
import numpy as np
import pytest

from memorax import ops
from tests.golden.cases import assert_golden, cast, load

TOLERANCES = {np.float32: 1e-5, np.float64: 1e-10}


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def softplus_decay(own, a):
    """Return -exp(A_log) softplus(a + dt_bias), A_log one a head."""
    rate = np.exp(own["core_param_A_log"]).reshape(-1, *[1] * (a.ndim - 3))
    return -rate * np.logaddexp(0, a + own["core_param_dt_bias"].reshape(a.shape[2:]))


def scaled(query):
    return query / query.shape[-1] ** 0.5


def delta_net(own, part):
    return ops.delta_rule, (scaled(part("q")), part("k"), part("v"), part("beta"), None)


def gated_delta_net(own, part):
    decay = softplus_decay(own, part("a"))
    return ops.delta_rule, (scaled(part("q")), part("k"), part("v"), sigmoid(part("b")), decay)


def gla(own, part):
    return ops.gated_linear_attention, (scaled(part("q")), part("k"), part("v"), part("g"))


def rwkv7(own, part):
    # It reads before the decay, the op after it.
    erase = part("kk") * np.exp(-part("log_w")), part("kk") * part("a")
    arguments = part("r"), part("k"), part("v"), *erase, part("log_w")
    return ops.generalized_delta_rule, arguments


CASES = {
    "delta_net": delta_net,
    "gated_delta_net": gated_delta_net,
    "kimi_delta": gated_delta_net,
    "gla": gla,
    "rwkv7": rwkv7,
}


@pytest.mark.parametrize(
    ("implementation", "dtype"),
    [("sequential", np.float64), ("chunked", np.float64), ("chunked", np.float32)],
    ids=["sequential", "chunked", "chunked_float32"],
)
@pytest.mark.parametrize("name", CASES)
def test_recurrence_computes_what_its_oracle_does(name, implementation, dtype):
    own = load(name)
    op, first = CASES[name](own, lambda part: own[f"core_{part}"])
    _, second = CASES[name](own, lambda part: own[f"core_{part}2"])

    def state(suffix):
        values = own[f"core_S{suffix}"]
        return values.swapaxes(-1, -2) if name == "rwkv7" else values

    # All runs as rows of one batch: from a fresh state through both pieces, and with resets.
    def rows(one, other):
        return None if one is None else np.concatenate([np.concatenate([one, other], axis=1)] * 2)

    steps = [rows(*parts) for parts in zip(first, second, strict=True)]
    batch, time = own["start"].shape
    done = np.zeros((2 * batch, own["core_y"].shape[1] + own["core_y2"].shape[1]), bool)
    done[batch:, :time] = own["start"]
    start = np.concatenate([np.zeros_like(state("0")), state("0")])
    with jax.enable_x64(dtype is np.float64):
        run = jax.jit(functools.partial(op, implementation=implementation, chunk_size=4))
        last, outputs = run(*cast(steps, dtype), jax.numpy.asarray(done), cast(start, dtype))
        actual = last[:batch], outputs[:batch, :time], outputs[:batch, time:]
        expected = state("_T2"), own["core_y"], own["core_y2"]
        assert_golden(actual, expected, dtype, TOLERANCES[dtype])
        assert_golden(outputs[batch:, :time], own["core_y_reset"], dtype, TOLERANCES[dtype])
