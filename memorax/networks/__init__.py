"""Memory networks: feature extractors, torsos and heads that snap together."""

from memorax.networks import heads
from memorax.networks.cells import (
    FFMCell,
    FFMConfig,
    LinearAttentionCell,
    LinearAttentionConfig,
    LRUCell,
    LRUConfig,
    Mamba2Cell,
    Mamba2Config,
    MinGRUCell,
    MinGRUConfig,
    S5Cell,
    S5Config,
    mLSTMCell,
    mLSTMConfig,
)
from memorax.networks.feature_extractor import FeatureExtractor
from memorax.networks.network import Network
from memorax.networks.sequence_models import (
    RNN,
    Memoroid,
    MemoroidCell,
    MonoidCell,
    SequenceModel,
    SequenceModelWrapper,
)

__all__ = [
    "RNN",
    "FFMCell",
    "FFMConfig",
    "FeatureExtractor",
    "LRUCell",
    "LRUConfig",
    "LinearAttentionCell",
    "LinearAttentionConfig",
    "Mamba2Cell",
    "Mamba2Config",
    "Memoroid",
    "MemoroidCell",
    "MinGRUCell",
    "MinGRUConfig",
    "MonoidCell",
    "Network",
    "S5Cell",
    "S5Config",
    "SequenceModel",
    "SequenceModelWrapper",
    "heads",
    "mLSTMCell",
    "mLSTMConfig",
]
