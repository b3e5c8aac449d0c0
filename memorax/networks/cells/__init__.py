"""Cells: the recurrences of memories, one file a cell."""

from memorax.networks.cells.chrono import ChronoGRUCell, ChronoLSTMCell
from memorax.networks.cells.delta_net import DeltaNetCell, DeltaNetConfig
from memorax.networks.cells.ffm import FFMCell, FFMConfig
from memorax.networks.cells.gated_delta_net import GatedDeltaNetCell, GatedDeltaNetConfig
from memorax.networks.cells.gated_linear_attention import (
    GatedLinearAttentionCell,
    GatedLinearAttentionConfig,
)
from memorax.networks.cells.kimi_delta_attention import (
    KimiDeltaAttentionCell,
    KimiDeltaAttentionConfig,
)
from memorax.networks.cells.linear_attention import LinearAttentionCell, LinearAttentionConfig
from memorax.networks.cells.lru import LRUCell, LRUConfig
from memorax.networks.cells.mamba2 import Mamba2Cell, Mamba2Config
from memorax.networks.cells.mamba3 import Mamba3Cell, Mamba3Config
from memorax.networks.cells.min_gru import MinGRUCell, MinGRUConfig
from memorax.networks.cells.mlstm import mLSTMCell, mLSTMConfig
from memorax.networks.cells.rg_lru import RGLRUCell, RGLRUConfig
from memorax.networks.cells.rtu import RTUCell, RTUConfig
from memorax.networks.cells.rwkv7 import RWKV7Cell, RWKV7Config
from memorax.networks.cells.s5 import S5Cell, S5Config
from memorax.networks.cells.shm import SHMCell, SHMConfig
from memorax.networks.cells.slstm import sLSTMCell, sLSTMConfig

__all__ = [
    "ChronoGRUCell",
    "ChronoLSTMCell",
    "DeltaNetCell",
    "DeltaNetConfig",
    "FFMCell",
    "FFMConfig",
    "GatedDeltaNetCell",
    "GatedDeltaNetConfig",
    "GatedLinearAttentionCell",
    "GatedLinearAttentionConfig",
    "KimiDeltaAttentionCell",
    "KimiDeltaAttentionConfig",
    "LRUCell",
    "LRUConfig",
    "LinearAttentionCell",
    "LinearAttentionConfig",
    "Mamba2Cell",
    "Mamba2Config",
    "Mamba3Cell",
    "Mamba3Config",
    "MinGRUCell",
    "MinGRUConfig",
    "RGLRUCell",
    "RGLRUConfig",
    "RTUCell",
    "RTUConfig",
    "RWKV7Cell",
    "RWKV7Config",
    "S5Cell",
    "S5Config",
    "SHMCell",
    "SHMConfig",
    "mLSTMCell",
    "mLSTMConfig",
    "sLSTMCell",
    "sLSTMConfig",
]
