"""Torsos by name."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn

from memorax.networks import (
    RNN,
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
    RoPE,
    RTUCell,
    RTUConfig,
    S5Cell,
    S5Config,
    SelfAttention,
    SelfAttentionConfig,
    SHMCell,
    SHMConfig,
    architectures,
    mLSTMCell,
    mLSTMConfig,
    sLSTMCell,
    sLSTMConfig,
)

HEADS = 4
"""Of the models that have some, each a quarter of the features wide."""

CONTEXT_LENGTH = 128
"""How many steps attention sees, the latest included."""

STEPS_PER_TRIAL = 128
"""How long RL²'s memory lasts."""

TORSOS: dict[str, Callable[[int], Any]] = {
    "gru": lambda features: RNN(cell=nn.GRUCell(features=features)),
    "lstm": lambda features: RNN(cell=nn.OptimizedLSTMCell(features=features)),
    "simple": lambda features: RNN(cell=nn.SimpleCell(features=features)),
    "slstm": lambda features: RNN(cell=sLSTMCell(sLSTMConfig(features, features, HEADS))),
    "shm": lambda features: RNN(cell=SHMCell(SHMConfig(16, output_features=features))),
    "rtu": lambda features: RNN(cell=RTUCell(RTUConfig(features, features))),
    "lru": lambda features: Memoroid(LRUCell(LRUConfig(features, features))),
    "s5": lambda features: Memoroid(S5Cell(S5Config(features, features))),
    "min_gru": lambda features: Memoroid(MinGRUCell(MinGRUConfig(features))),
    "mamba2": lambda features: Memoroid(Mamba2Cell(Mamba2Config(features))),
    "mlstm": lambda features: Memoroid(mLSTMCell(mLSTMConfig(features, features, HEADS))),
    "ffm": lambda features: Memoroid(FFMCell(FFMConfig(features))),
    "linear_attention": lambda features: Memoroid(
        LinearAttentionCell(LinearAttentionConfig(features, HEADS, max(features // HEADS, 1)))
    ),
    "attention": lambda features: SelfAttention(
        SelfAttentionConfig(features, HEADS, CONTEXT_LENGTH, positional_embedding=RoPE())
    ),
    "gtrxl": architectures.gtrxl,
    "transformer_xl": architectures.transformer_xl,
    "gpt2": architectures.gpt2,
    "xlstm": architectures.xlstm,
    "mamba2_stack": architectures.mamba2,
    "s5_stack": architectures.s5,
    "min_gru_stack": architectures.min_gru,
    "rl2_gru": lambda features: architectures.rl2_gru(features, STEPS_PER_TRIAL),
    "mlp": lambda features: nn.Sequential((nn.Dense(features), nn.relu)),
}
"""What each name builds, given the number of features."""
