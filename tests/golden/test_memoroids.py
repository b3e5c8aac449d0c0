"""Memoroid cells against the numbers of independent implementations."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import pytest

from memorax.networks import (
    FFMCell,
    FFMConfig,
    LinearAttentionCell,
    LinearAttentionConfig,
    LRUCell,
    LRUConfig,
    Mamba2Cell,
    Mamba2Config,
    Memoroid,
    MinGRUCell,
    MinGRUConfig,
    S5Cell,
    S5Config,
    mLSTMCell,
    mLSTMConfig,
)
from tests.golden.cases import TOLERANCES, assert_golden, cast, load


@dataclass(frozen=True)
class Case:
    """A model with the oracle's parameters.

    ``runs`` has for each run the inputs, whether episodes start, the carry it begins from (None:
    a fresh one), the outputs, and the carry at the end as ``read`` reads it.
    """

    name: str
    arrays: dict[str, np.ndarray]
    cell: Callable[[Any], Any]
    params: dict[str, Any]
    runs: tuple[tuple[np.ndarray, bool, Any, np.ndarray, Any], ...]
    read: Callable[[Any], Any] = lambda carry: carry


def pair(values):
    return values.real, values.imag


def lru():
    arrays = load("lru")
    p = {key[6:]: value for key, value in arrays.items() if key.startswith("param_")}
    params = {
        "input_projection": {"kernel": np.eye(p["D"].size)},
        "B": np.stack([p["B_re"].T, p["B_im"].T]),
        "C": np.stack([p["C_re"].T, p["C_im"].T]),
        **{name: p[name] for name in ("nu_log", "theta_log", "gamma_log", "D")},
    }
    config = LRUConfig(features=6, hidden_dim=8)
    h = {name: pair(arrays[name]) for name in ("h0", "h_T", "h_T2", "h_init", "h_reset")}
    return Case(
        "lru",
        arrays,
        lambda dtype: LRUCell(config=config, param_dtype=dtype),
        params,
        (
            (arrays["x"], False, None, arrays["y"], h["h_T"]),
            (arrays["x2"], False, h["h_T"], arrays["y2"], h["h_T2"]),
            (arrays["x"], False, h["h0"], arrays["y_init"], h["h_init"]),
            (arrays["x"], True, h["h0"], arrays["y_reset"], h["h_reset"]),
        ),
    )


def s5(prefix, discretization, conjugate_symmetry):
    def case():
        arrays = load("s5")
        own = {key[len(prefix) :]: value for key, value in arrays.items() if key.startswith(prefix)}
        p = {key[6:]: value for key, value in own.items() if key.startswith("param_")}
        params = {
            "input_projection": {"kernel": np.eye(p["D"].size)},
            "Lambda_real": p["Lambda_re"],
            "Lambda_imag": p["Lambda_im"],
            "B": np.stack([p["B_re"].T, p["B_im"].T]),
            "C": np.stack([p["C_re"].T, p["C_im"].T]),
            "D": p["D"],
            "log_step": p["log_step"],
        }
        config = S5Config(
            features=6,
            hidden_dim=8,
            discretization=discretization,
            conjugate_symmetry=conjugate_symmetry,
        )
        h = {name: pair(own[name]) for name in ("h0", "h_T", "h_T2", "h_init", "h_reset")}
        return Case(
            f"s5_{prefix}",
            arrays,
            lambda dtype: S5Cell(config=config, param_dtype=dtype),
            params,
            (
                (arrays["x"], False, None, own["y"], h["h_T"]),
                (arrays["x2"], False, h["h_T"], own["y2"], h["h_T2"]),
                (arrays["x"], False, h["h0"], own["y_init"], h["h_init"]),
                (arrays["x"], True, h["h0"], own["y_reset"], h["h_reset"]),
            ),
        )

    return case


def min_gru():
    arrays = load("mingru")
    params = {
        "gate": {"kernel": arrays["param_Wz"].T},
        "candidate": {"kernel": arrays["param_Wh"].T},
    }
    config = MinGRUConfig(features=6, use_bias=False)
    return Case(
        "min_gru",
        arrays,
        lambda dtype: MinGRUCell(config=config, param_dtype=dtype),
        params,
        (
            (arrays["x"], False, None, arrays["y"], arrays["h_T"]),
            (arrays["x2"], False, arrays["h_T"], arrays["y2"], arrays["h_T2"]),
            (arrays["x"], False, arrays["h0"], arrays["y_init"], arrays["h_init"]),
            (arrays["x"], True, arrays["h0"], arrays["y_reset"], arrays["h_reset"]),
        ),
    )


def ffm():
    arrays = load("ffm")
    names = {"value": "value", "skip": "skip", "input_gate": "in_gate", "output_gate": "out_gate"}
    params = {
        ours: {"kernel": arrays[f"param_W_{theirs}"].T, "bias": arrays[f"param_b_{theirs}"]}
        for ours, theirs in names.items()
    }
    mix = arrays["param_W_mix"]
    flat = [mix[..., part].reshape(mix.shape[0], -1) for part in range(2)]
    params["mix"] = {"kernel": np.concatenate(flat, axis=1).T, "bias": arrays["param_b_mix"]}
    params |= {"a": arrays["param_a"], "b": arrays["param_b"]}
    config = FFMConfig(features=5, memory_size=6, context_size=4)
    return Case(
        "ffm",
        arrays,
        lambda dtype: FFMCell(config=config, param_dtype=dtype),
        params,
        (
            (arrays["x"], False, None, arrays["y"], pair(arrays["state_T"])),
            (
                arrays["x2"],
                False,
                pair(arrays["state_T"]),
                arrays["y2"],
                pair(arrays["state_T2"]),
            ),
            (
                arrays["x"],
                True,
                pair(arrays["state_T"]),
                arrays["y_reset"],
                pair(arrays["state_reset"]),
            ),
        ),
    )


def linear_attention():
    arrays = load("linear_attention")
    flat = {name: arrays[name].reshape(*arrays[name].shape[:2], -1) for name in "qkv"}
    # The oracle has no projections: the inputs are its queries, keys and values side by side.
    inputs = np.concatenate([flat["q"], flat["k"], flat["v"]], axis=-1)
    chosen = np.split(np.eye(inputs.shape[-1]), np.cumsum([flat[name].shape[-1] for name in "qk"]))
    params = {
        name: {"kernel": rows.T}
        for name, rows in zip(("query", "key", "value"), chosen, strict=True)
    }
    params["output"] = {"kernel": np.eye(8)}
    config = LinearAttentionConfig(features=8, num_heads=2, head_dim=5, value_dim=4)

    def state(suffix):
        return np.concatenate([arrays[f"S_{suffix}"], arrays[f"z_{suffix}"][..., None]], axis=-1)

    def outputs(name):
        return arrays[name].reshape(*arrays[name].shape[:2], -1)

    steps = arrays["y"].shape[1]
    return Case(
        "linear_attention",
        arrays,
        lambda dtype: LinearAttentionCell(config=config, param_dtype=dtype),
        params,
        (
            (inputs[:, :steps], False, None, outputs("y"), state("T")),
            (inputs[:, steps:], False, state("T"), outputs("y2"), state("T2")),
            (inputs[:, :steps], True, state("T"), outputs("y_reset"), state("reset")),
        ),
    )


def mamba2(prefix, num_groups):
    def case():
        arrays = load("mamba2")
        own = {key[len(prefix) :]: value for key, value in arrays.items() if key.startswith(prefix)}
        p = {key[6:]: value for key, value in own.items() if key.startswith("param_")}
        params = {
            "in_proj": {"kernel": p["in_proj"].T},
            "convolution": {"kernel": p["conv_w"], "bias": p["conv_b"]},
            "out_proj": {"kernel": p["out_proj"].T},
            "norm": p["norm_w"],
            **{name: p[name] for name in ("A_log", "dt_bias", "D")},
        }
        config = Mamba2Config(
            features=12, num_heads=4, head_dim=6, state_dim=5, num_groups=num_groups, kernel_size=4
        )

        def carry(suffix):
            # The oracle keeps one input more than is ever read again.
            return own[f"state_{suffix}"].swapaxes(-1, -2), own[f"conv_{suffix}"][:, 1:]

        return Case(
            f"mamba2_{prefix}",
            {"start": own["start"]},
            lambda dtype: Mamba2Cell(config=config, param_dtype=dtype),
            params,
            (
                (own["x"], False, None, own["y"], carry("T")),
                (own["x2"], False, carry("T"), own["y2"], carry("T2")),
                (own["x"], True, carry("T"), own["y_reset"], carry("reset")),
            ),
        )

    return case


def mlstm(prefix, block_size):
    def case():
        arrays = load("mlstm")
        own = {key[len(prefix) :]: value for key, value in arrays.items() if key.startswith(prefix)}
        p = {key[6:]: value for key, value in own.items() if key.startswith("param_")}
        params = {
            "up": {"kernel": p["up"].T},
            "convolution": {"kernel": p["conv_w"], "bias": p["conv_b"]},
            **{
                name: {"kernel": p[f"W{name[0]}"].swapaxes(-1, -2)}
                for name in ("query", "key", "value")
            },
            "gates": {
                "kernel": np.concatenate([p["Wi"], p["Wf"]]).T,
                "bias": np.concatenate([p["bi"], p["bf"]]),
            },
            "norm": p["norm_w"],
            "skip": p["skip"],
            "down": {"kernel": p["down"].T},
        }
        config = mLSTMConfig(features=12, hidden_dim=16, num_heads=2, block_size=block_size)

        def carry(suffix):
            state = np.concatenate([own[f"C_{suffix}"], own[f"n_{suffix}"][..., None]], axis=-1)
            return state, own[f"m_{suffix}"], own[f"conv_{suffix}"][:, 1:]

        def unscaled(carry):
            # The stabiliser is not unique; what it scales is.
            state, m, window = carry
            return state * np.exp(m)[..., None, None], window

        return Case(
            f"mlstm_{prefix}",
            arrays,
            lambda dtype: mLSTMCell(config=config, param_dtype=dtype),
            params,
            (
                (arrays["x"], False, None, own["y"], carry("T")),
                (arrays["x2"], False, carry("T"), own["y2"], carry("T2")),
                (arrays["x"], True, carry("T"), own["y_reset"], carry("reset")),
            ),
            unscaled,
        )

    return case


CASES = {
    "lru": lru,
    "s5_conjugate_zoh": s5("conj_zoh_", "zoh", True),
    "s5_zoh": s5("full_zoh_", "zoh", False),
    "s5_bilinear": s5("full_bilinear_", "bilinear", False),
    "min_gru": min_gru,
    "ffm": ffm,
    "linear_attention": linear_attention,
    "mamba2": mamba2("g1_", 1),
    "mamba2_two_groups": mamba2("g2_", 2),
    "mlstm": mlstm("blk4_", 4),
    "mlstm_block_a_head": mlstm("blkhead_", 8),
}


@pytest.mark.parametrize("dtype", TOLERANCES, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_cell_computes_what_its_oracle_does(case, dtype):
    case = case()
    with jax.enable_x64(dtype is np.float64):
        model = Memoroid(cell=case.cell(dtype))
        variables = {"params": {"cell": cast(case.params, dtype)}}
        key, first = jax.random.key(0), cast(case.runs[0][0], dtype)
        own = jax.eval_shape(model.init, key, first)
        assert jax.tree.map(np.shape, variables) == jax.tree.map(np.shape, own)
        apply = jax.jit(model.apply)
        for inputs, with_resets, start, outputs, end in case.runs:
            done = case.arrays["start"] if with_resets else np.zeros(inputs.shape[:2], bool)
            initial_carry = (
                model.initialize_carry(key, first.shape[::2]) if start is None else start
            )
            actual = apply(
                variables,
                cast(inputs, dtype),
                jax.numpy.asarray(done),
                cast(initial_carry, dtype),
            )
            actual = case.read(actual[0]), actual[1]
            assert_golden(actual, (case.read(end), outputs), dtype)
