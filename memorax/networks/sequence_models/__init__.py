"""Memories over time."""

from memorax.networks.sequence_models.adapters import CellAdapter, MemaxCell, as_sequence_model
from memorax.networks.sequence_models.base import SequenceModel
from memorax.networks.sequence_models.causal_conv1d import CausalConv1d
from memorax.networks.sequence_models.memoroid import Memoroid, MemoroidCell, MonoidCell
from memorax.networks.sequence_models.rl2 import RL2Wrapper
from memorax.networks.sequence_models.rnn import RNN
from memorax.networks.sequence_models.self_attention import SelfAttention, SelfAttentionConfig
from memorax.networks.sequence_models.wrappers import SequenceModelWrapper

__all__ = [
    "RNN",
    "CausalConv1d",
    "CellAdapter",
    "MemaxCell",
    "Memoroid",
    "MemoroidCell",
    "MonoidCell",
    "RL2Wrapper",
    "SelfAttention",
    "SelfAttentionConfig",
    "SequenceModel",
    "SequenceModelWrapper",
    "as_sequence_model",
]
