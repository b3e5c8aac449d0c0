"""Cells: what a memory computes at each step, one file a cell."""

from memorax.networks.cells.chrono import ChronoGRUCell, ChronoLSTMCell
from memorax.networks.cells.ffm import FFMCell, FFMConfig
from memorax.networks.cells.linear_attention import LinearAttentionCell, LinearAttentionConfig
from memorax.networks.cells.lru import LRUCell, LRUConfig
from memorax.networks.cells.mamba2 import Mamba2Cell, Mamba2Config
from memorax.networks.cells.min_gru import MinGRUCell, MinGRUConfig
from memorax.networks.cells.mlstm import mLSTMCell, mLSTMConfig
from memorax.networks.cells.rtu import RTUCell, RTUConfig
from memorax.networks.cells.s5 import S5Cell, S5Config
from memorax.networks.cells.shm import SHMCell, SHMConfig
from memorax.networks.cells.slstm import sLSTMCell, sLSTMConfig

__all__ = [
    "ChronoGRUCell",
    "ChronoLSTMCell",
    "FFMCell",
    "FFMConfig",
    "LRUCell",
    "LRUConfig",
    "LinearAttentionCell",
    "LinearAttentionConfig",
    "Mamba2Cell",
    "Mamba2Config",
    "MinGRUCell",
    "MinGRUConfig",
    "RTUCell",
    "RTUConfig",
    "S5Cell",
    "S5Config",
    "SHMCell",
    "SHMConfig",
    "mLSTMCell",
    "mLSTMConfig",
    "sLSTMCell",
    "sLSTMConfig",
]
