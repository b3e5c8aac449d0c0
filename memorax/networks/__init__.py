"""Memory networks: feature extractors, torsos and heads that snap together.

The examples of the classes start from these lines.

Examples:
    >>> import flax.linen as nn
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from memorax import ops
    >>> from memorax.networks import *
    >>> key, inputs = jax.random.key(0), jnp.ones((2, 5, 8))  # (batch, time, features)
"""

from memorax.networks import architectures, cells, heads, inspect
from memorax.networks.blocks import (
    FFN,
    GLU,
    GatedResidual,
    MoE,
    PostNorm,
    PreNorm,
    Projection,
    Residual,
    RWKV7Layers,
    SegmentRecurrence,
    Stack,
    TopKRouter,
)
from memorax.networks.cells import *  # noqa: F403
from memorax.networks.feature_extractor import FeatureExtractor
from memorax.networks.network import Network
from memorax.networks.positional_embeddings import (
    ALiBi,
    LearnablePositionalEmbedding,
    PositionalEmbedding,
    RelativePositionalEmbedding,
    RoPE,
)
from memorax.networks.sequence_models import (
    RNN,
    CausalConv1d,
    CellAdapter,
    MemaxCell,
    Memoroid,
    MemoroidCell,
    MonoidCell,
    RL2Wrapper,
    SelfAttention,
    SelfAttentionConfig,
    SequenceModel,
    SequenceModelWrapper,
    as_sequence_model,
)
from memorax.networks.vision import CNN, PatchEmbedding, ViT

__all__ = [
    "CNN",
    "FFN",
    "GLU",
    "RNN",
    "ALiBi",
    "CausalConv1d",
    "CellAdapter",
    "FeatureExtractor",
    "GatedResidual",
    "LearnablePositionalEmbedding",
    "MemaxCell",
    "Memoroid",
    "MemoroidCell",
    "MoE",
    "MonoidCell",
    "Network",
    "PatchEmbedding",
    "PositionalEmbedding",
    "PostNorm",
    "PreNorm",
    "Projection",
    "RL2Wrapper",
    "RWKV7Layers",
    "RelativePositionalEmbedding",
    "Residual",
    "RoPE",
    "SegmentRecurrence",
    "SelfAttention",
    "SelfAttentionConfig",
    "SequenceModel",
    "SequenceModelWrapper",
    "Stack",
    "TopKRouter",
    "ViT",
    "architectures",
    "as_sequence_model",
    "heads",
    "inspect",
]
__all__ += cells.__all__
