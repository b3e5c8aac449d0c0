"""Memories as published: layers of cells, norms, residuals and gates, composed of blocks.

Each function returns a torso of ``num_layers`` layers that are ``features`` wide, whatever the
width of its inputs. ``memory_horizon`` is the number of steps that the longest memory lasts before
training (``None``: the default of the cell's configuration, and biases of 0 for GRU and LSTM).
``dtype`` is that of the computation (``None``: that of inputs and parameters), ``param_dtype`` that
of the parameters.
"""

from memorax.networks.architectures.linear_recurrences import ffm, lru, min_gru, rg_lru, s5
from memorax.networks.architectures.matrix_states import (
    delta_net,
    gated_delta_net,
    gated_linear_attention,
    kimi_delta_attention,
    linear_attention,
    mamba2,
    mamba3,
    mlstm,
    rwkv7,
    slstm,
    xlstm,
)
from memorax.networks.architectures.recurrent import gru, lstm, rl2_gru, rtu, shm, simple
from memorax.networks.architectures.transformers import attention, gpt2, gtrxl, transformer_xl

__all__ = [
    "attention",
    "delta_net",
    "ffm",
    "gated_delta_net",
    "gated_linear_attention",
    "gpt2",
    "gru",
    "gtrxl",
    "kimi_delta_attention",
    "linear_attention",
    "lru",
    "lstm",
    "mamba2",
    "mamba3",
    "min_gru",
    "mlstm",
    "rg_lru",
    "rl2_gru",
    "rtu",
    "rwkv7",
    "s5",
    "shm",
    "simple",
    "slstm",
    "transformer_xl",
    "xlstm",
]
