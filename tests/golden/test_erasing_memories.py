"""Cells of the delta rule and of today's linear recurrences against independent implementations."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax.networks import (
    DeltaNetCell,
    DeltaNetConfig,
    GatedDeltaNetCell,
    GatedDeltaNetConfig,
    GatedLinearAttentionCell,
    GatedLinearAttentionConfig,
    KimiDeltaAttentionCell,
    KimiDeltaAttentionConfig,
    Mamba3Cell,
    Mamba3Config,
    Memoroid,
    RGLRUCell,
    RGLRUConfig,
    RWKV7Cell,
    RWKV7Config,
)
from memorax.networks.cells.rwkv7 import RWKV7ChannelMixing
from tests.golden.cases import assert_golden, cast, load

TOLERANCES = {np.float32: 1e-5, np.float64: 1e-10}
each_dtype = pytest.mark.parametrize(
    "dtype",
    [pytest.param(np.float32, marks=pytest.mark.exhaustive), np.float64],
    ids=["float32", "float64"],
)


@dataclass(frozen=True)
class Case:
    """A cell with the oracle's parameters; ``carry`` makes ours from its arrays of a suffix."""

    arrays: dict[str, np.ndarray]
    own: dict[str, np.ndarray]
    cell: Callable[[Any], Any]
    params: dict[str, Any]
    carry: Callable[[str], Any]


def arrays_of(name, prefix):
    """Return all arrays, those of the prefix without it, and the parameters among them."""
    arrays = load(name)
    own = {key[len(prefix) :]: value for key, value in arrays.items() if key.startswith(prefix)}
    return arrays, own, {key[6:]: value for key, value in own.items() if key.startswith("param_")}


def kernel(weight):
    return {"kernel": weight.T}


def query_key_value(p):
    """Put the three projections and convolutions side by side."""
    params = {"projection": kernel(np.concatenate([p[f"{name}_proj"] for name in "qkv"]))}
    if "q_conv1d" in p:
        convolution = {"kernel": np.concatenate([p[f"{name}_conv1d"] for name in "qkv"], axis=1)}
        if "q_conv1d_bias" in p:
            convolution["bias"] = np.concatenate([p[f"{name}_conv1d_bias"] for name in "qkv"])
        params["convolution"] = convolution
    return params


def matrix_memory(name, prefix, cell, config, more_params, **fields):
    """Return a case with the conventions that all layers of flash-linear-attention share."""
    arrays, own, p = arrays_of(name, prefix)
    value_heads, key_dim, value_dim = own["S_T"].shape[1:]
    sizes = {
        "features": p["o_proj"].shape[0],
        "num_heads": p["q_proj"].shape[0] // key_dim,
        "key_dim": key_dim,
        "value_dim": value_dim,
        "kernel_size": p["q_conv1d"].shape[0] if "q_conv1d" in p else None,
        "use_conv_bias": "q_conv1d_bias" in p,
    }
    params = {
        "query_key_value": query_key_value(p),
        "norm": p["g_norm_swish_gate" if name == "gla" else "o_norm"],
        "output": kernel(p["o_proj"]),
        **more_params(p),
    }
    if name != "gla":
        params["beta"] = kernel(p["b_proj"])
    if "g_proj" in p:
        params["gate"] = kernel(p["g_proj"])

    def carry(suffix):
        # The oracle keeps one input more than is ever read again.
        windows = [own[f"conv_{part}_{suffix}"][:, 1:] for part in "qkv" if "q_conv1d" in p]
        return own[f"S_{suffix}"], np.concatenate(windows, axis=-1) if windows else ()

    assert p["v_proj"].shape[0] == value_heads * value_dim
    full = config(**sizes, **fields)
    return Case(arrays, own, lambda dtype: cell(config=full, param_dtype=dtype), params, carry)


def delta_net(prefix, **fields):
    return lambda: matrix_memory(
        "delta_net", prefix, DeltaNetCell, DeltaNetConfig, lambda p: {}, **fields
    )


def gated_delta_net(prefix, **fields):
    def more(p):
        return {"decay": kernel(p["a_proj"]), "A_log": p["A_log"], "dt_bias": p["dt_bias"]}

    def case():
        value_heads = load("gated_delta_net")[f"{prefix}S_T"].shape[1]
        sizes = fields | {"num_value_heads": value_heads}
        return matrix_memory(
            "gated_delta_net", prefix, GatedDeltaNetCell, GatedDeltaNetConfig, more, **sizes
        )

    return case


def kimi_delta(prefix, **fields):
    def more(p):
        return {
            "decay_down": kernel(p["f_proj_0"]),
            "decay_up": kernel(p["f_proj_1"]),
            "gate_down": kernel(p["g_proj_0"]),
            "gate_up": {**kernel(p["g_proj_1"]), "bias": p["g_proj_1_bias"]},
            "A_log": p["A_log"],
            "dt_bias": p["dt_bias"].reshape(p["A_log"].size, -1),
        }

    def case():
        rank = load("kimi_delta")[f"{prefix}param_f_proj_0"].shape[0]
        kinds = KimiDeltaAttentionCell, KimiDeltaAttentionConfig
        return matrix_memory("kimi_delta", prefix, *kinds, more, rank=rank, **fields)

    return case


def gla(prefix, **fields):
    def more(p):
        up = {**kernel(p["gk_proj_1"]), "bias": p["gk_proj_1_bias"]}
        return {"forget_down": kernel(p["gk_proj_0"]), "forget_up": up}

    def case():
        rank = load("gla")[f"{prefix}param_gk_proj_0"].shape[0]
        kinds = GatedLinearAttentionCell, GatedLinearAttentionConfig
        return matrix_memory("gla", prefix, *kinds, more, gate_rank=rank, **fields)

    return case


def rg_lru():
    arrays, own, p = arrays_of("rg_lru", "base_")

    def with_bias(weight, bias):
        return {"kernel": weight, "bias": bias.reshape(-1)}

    params = {
        name: with_bias(p[f"{name}_weight"].T, p[f"{name}_bias"])
        for name in ("linear_x", "linear_y", "linear_out")
    }
    params |= {
        "convolution": with_bias(p["conv_1d_w"], p["conv_1d_b"]),
        "recurrence_gate": with_bias(p["a_gate_w"], p["a_gate_b"]),
        "input_gate": with_bias(p["input_gate_w"], p["input_gate_b"]),
        "a_param": p["a_param"],
    }
    config = RGLRUConfig(
        features=p["linear_out_weight"].shape[0],
        hidden_dim=p["a_param"].size,
        num_heads=p["a_gate_w"].shape[0],
        kernel_size=p["conv_1d_w"].shape[0],
    )

    def carry(suffix):
        h = own[f"h_{suffix}"]
        return h, own[f"conv_{suffix}"], np.ones(h.shape[0], bool)

    return Case(
        arrays, own, lambda dtype: RGLRUCell(config=config, param_dtype=dtype), params, carry
    )


def rwkv7(prefix):
    arrays, own, p = arrays_of("rwkv7", prefix)
    square = ("receptance", "key", "value", "output")
    params = {name: kernel(p[name]) for name in square}
    params |= {f"mix_{name}": p[f"x_{name}"] for name in "rwkvag"}
    low_rank = {"decay": "w", "erase": "a", "gate": "g"} | ({"share": "v"} if "v1" in p else {})
    for ours, theirs in low_rank.items():
        params[f"{ours}_down"] = {"kernel": p[f"{theirs}1"]}
        params[f"{ours}_up"] = {"kernel": p[f"{theirs}2"]}
        if f"{theirs}0" in p:
            params[f"{ours}_up"]["bias"] = p[f"{theirs}0"]
    params |= {name: p[name] for name in ("k_k", "k_a", "r_k")}
    params |= {"norm_scale": p["ln_x_weight"], "norm_bias": p["ln_x_bias"]}
    config = RWKV7Config(
        features=p["output"].shape[0],
        num_heads=p["r_k"].shape[0],
        head_dim=p["r_k"].shape[1],
        decay_rank=p["w1"].shape[1],
        erase_rank=p["a1"].shape[1],
        value_rank=p["v1"].shape[1] if "v1" in p else 1,
        gate_rank=p["g1"].shape[1],
    )

    def carry(suffix):
        return own[f"S_{suffix}"].swapaxes(-1, -2), own[f"shift_{suffix}"]

    return Case(
        arrays, own, lambda dtype: RWKV7Cell(config=config, param_dtype=dtype), params, carry
    )


def mamba3(prefix, **fields):
    def case():
        arrays, own, p = arrays_of("mamba3", prefix)
        heads, head_dim, state_dim = own["S_T"].shape[1:]
        angles = own["angle_T"].shape[-1]
        # What is left of the projection's width are B and C of the groups.
        shared = p["in_proj"].shape[0] - 2 * heads * head_dim - 3 * heads - angles
        params = {"in_proj": kernel(p["in_proj"]), "out_proj": kernel(p["out_proj"])}
        names = ("dt_bias", "B_bias", "C_bias", "D", "B_norm", "C_norm")
        params |= {name: p[name] for name in names}
        if "norm" in p:
            params["norm"] = p["norm"].reshape(heads, head_dim)
        config = Mamba3Config(
            features=p["out_proj"].shape[0],
            num_heads=heads,
            head_dim=head_dim,
            state_dim=state_dim,
            num_groups=shared // (2 * state_dim),
            **fields,
        )

        def carry(suffix):
            state = own[f"S_{suffix}"].swapaxes(-1, -2)
            return own[f"angle_{suffix}"], state, own[f"k_{suffix}"], own[f"v_{suffix}"]

        return Case(
            arrays, own, lambda dtype: Mamba3Cell(config=config, param_dtype=dtype), params, carry
        )

    return case


CASES = {
    "delta_net": delta_net("base_"),
    "delta_net_gated": delta_net("gate_", use_gate=True, max_beta=2.0),
    "gated_delta_net": gated_delta_net("base_"),
    "gated_delta_net_value_heads": gated_delta_net("gva_", use_gate=False, max_beta=2.0),
    "kimi_delta": kimi_delta("base_"),
    "kimi_delta_bounded": kimi_delta("bound_", max_beta=2.0, min_log_decay=-5.0),
    "gla": gla("base_", gate_temperature=16.0),
    "gla_convolution": gla("conv_", gate_temperature=4.0),
    "rg_lru": rg_lru,
    "rwkv7": lambda: rwkv7("base_"),
    "rwkv7_later": lambda: rwkv7("later_"),
    "mamba3": mamba3("base_"),
    "mamba3_norm": mamba3(
        "norm_", use_norm=True, decay_activation="rational", rotated_fraction=1.0
    ),
}


def all_runs(case, fresh):
    """Return inputs, starts and carries of all runs as rows of one batch, compiled once.

    The first rows read both pieces from a fresh carry; the others read the first piece from the
    carry after it, with resets, and then something that nobody looks at.
    """
    x, x2, start = (case.arrays[name] for name in ("x", "x2", "start"))
    batch, time = start.shape
    inputs = np.concatenate([np.concatenate([x, x2], axis=1)] * 2)
    done = np.zeros(inputs.shape[:2], bool)
    done[batch:, :time] = start
    carry = jax.tree.map(lambda one, other: np.concatenate([one, other]), fresh, case.carry("T"))
    return inputs, done, carry


def assert_runs_golden(case, carry, outputs, dtype):
    batch, time = case.arrays["start"].shape
    pieces = outputs[:batch, :time], outputs[:batch, time:], outputs[batch:, :time]
    expected = tuple(case.own[name] for name in ("y", "y2", "y_reset"))
    assert_golden(pieces, expected, dtype, TOLERANCES[dtype])
    last = jax.tree.map(lambda leaf: leaf[:batch], carry)
    for ours, theirs in zip(jax.tree.leaves(last), jax.tree.leaves(case.carry("T2")), strict=True):
        if theirs.dtype == bool:
            np.testing.assert_array_equal(ours, theirs)
        else:
            assert_golden(ours, theirs, dtype, TOLERANCES[dtype])


@each_dtype
@pytest.mark.parametrize("name", CASES)
def test_cell_computes_what_its_oracle_does(name, dtype):
    case = CASES[name]()
    with jax.enable_x64(dtype is np.float64):
        model = Memoroid(cell=case.cell(dtype))
        variables = {"params": {"cell": cast(case.params, dtype)}}
        fresh = model.initialize_carry(jax.random.key(0), case.arrays["x"].shape[::2])
        inputs, done, carry = all_runs(case, fresh)
        carry = jax.tree.map(lambda leaf: leaf if leaf.dtype == bool else leaf.astype(dtype), carry)
        if name == "rwkv7_later":
            # What a layer is given by the first one has no place in a Memoroid's inputs.
            v_first = (case.own[key] for key in ("v_first", "v_first2"))
            v_first = np.concatenate([np.concatenate(list(v_first), axis=1)] * 2)

            def apply(variables, inputs, done, carry):
                carry, outputs, _ = model.cell.apply(
                    {"params": variables["params"]["cell"]},
                    *(inputs, done, carry),
                    first_value=cast(v_first, dtype),
                    method="mix",
                )
                return carry, outputs

        else:
            own = jax.eval_shape(model.init, jax.random.key(0), cast(inputs, dtype))
            assert jax.tree.map(np.shape, variables) == jax.tree.map(np.shape, own)
            apply = model.apply
        carry, outputs = jax.jit(apply)(variables, cast(inputs, dtype), jnp.asarray(done), carry)
        assert_runs_golden(case, carry, outputs, dtype)


def test_rwkv7_hands_on_the_first_layers_values():
    case = rwkv7("base_")
    cell = case.cell(np.float32)
    inputs = cast(case.arrays["x"], np.float32)
    carry = cell.initialize_carry(jax.random.key(0), inputs.shape[::2])
    variables = {"params": cast(case.params, np.float32)}
    done = jnp.zeros(inputs.shape[:2], bool)
    _, _, value = cell.apply(variables, inputs, done, carry, method="mix")
    assert_golden(value, case.own["v_first"], np.float32)


@each_dtype
def test_channel_mixing_computes_what_its_oracle_does(dtype):
    arrays, own, p = arrays_of("rwkv7", "channel_")
    case = Case(arrays, own, lambda dtype: None, {}, lambda suffix: own[f"shift_{suffix}"])
    hidden, features = p["key"].shape
    params = {"mix": p["x_k"], "key": kernel(p["key"]), "value": kernel(p["value"])}
    with jax.enable_x64(dtype is np.float64):
        model = RWKV7ChannelMixing(features, hidden / features, param_dtype=dtype)
        inputs, done, last = all_runs(case, np.zeros_like(own["shift_T"]))
        arguments = cast(inputs, dtype), jnp.asarray(done), cast(last, dtype)
        last, outputs = jax.jit(model.apply)({"params": cast(params, dtype)}, *arguments)
        assert_runs_golden(case, last, outputs, dtype)
