"""Every sequence model, listed once: a model that stands here is held to every law.

Models are small, for many are compiled, and any context, chunk or memory of theirs is shorter
than ``laws.TIME``, so that a single pass is longer than it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn

from memorax.networks import RNN, SequenceModelWrapper

FEATURES = 6
"""Unlike the number of features that the laws feed in: every model projects."""

Build = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Entry:
    """A model by name.

    Attributes:
        name: What its tests are called.
        build: Makes the model, given the dtype to compute in (``None``: that of inputs and
            parameters) and the dtype of its parameters.
        alternatives: By name, other implementations of the same recurrence with the same
            parameters and carry.
    """

    name: str
    build: Build
    alternatives: Mapping[str, Build] = field(default_factory=dict)


# The RNN takes its own backward pass for exactly the cells of Flax, not for what inherits them.
class GRUCellInGeneralScan(nn.GRUCell):
    pass


class LSTMCellInGeneralScan(nn.LSTMCell):
    pass


class OptimizedLSTMCellInGeneralScan(nn.OptimizedLSTMCell):
    pass


def rnn(cell: type[nn.RNNCellBase], unroll: int = 1) -> Build:
    return lambda dtype, param_dtype: RNN(
        cell=cell(features=FEATURES, dtype=dtype, param_dtype=param_dtype), unroll=unroll
    )


def dense(dtype: Any, param_dtype: Any) -> nn.Dense:
    return nn.Dense(FEATURES, dtype=dtype, param_dtype=param_dtype)


def mlp(dtype: Any, param_dtype: Any) -> nn.Sequential:
    return nn.Sequential([dense(dtype, param_dtype), nn.relu, dense(dtype, param_dtype)])


REGISTRY = (
    Entry(
        "gru",
        rnn(nn.GRUCell),
        {"general_scan": rnn(GRUCellInGeneralScan), "unroll_4": rnn(nn.GRUCell, unroll=4)},
    ),
    Entry(
        "lstm",
        rnn(nn.LSTMCell),
        {
            "general_scan": rnn(LSTMCellInGeneralScan),
            "unroll_4": rnn(nn.LSTMCell, unroll=4),
            "optimized": rnn(nn.OptimizedLSTMCell),
        },
    ),
    Entry(
        "optimized_lstm",
        rnn(nn.OptimizedLSTMCell),
        {"general_scan": rnn(OptimizedLSTMCellInGeneralScan)},
    ),
    Entry("simple", rnn(nn.SimpleCell), {"unroll_4": rnn(nn.SimpleCell, unroll=4)}),
    Entry("mgu", rnn(nn.MGUCell)),
    Entry("wrapped_mlp", lambda *dtypes: SequenceModelWrapper(mlp(*dtypes))),
    Entry("mlp", mlp),
    Entry("dense", dense),
)
