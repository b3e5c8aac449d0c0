"""Transformers over a window of the latest steps."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from memorax.networks.architectures.common import residual_stack
from memorax.networks.blocks import (
    FFN,
    GLU,
    GatedResidual,
    PostNorm,
    PreNorm,
    Projection,
    Residual,
    SegmentRecurrence,
    Stack,
)
from memorax.networks.positional_embeddings import (
    LearnablePositionalEmbedding,
    RelativePositionalEmbedding,
    RoPE,
)
from memorax.networks.sequence_models import SelfAttention, SelfAttentionConfig
from memorax.validation import check_positive


def attention(
    features: int,
    num_layers: int = 2,
    num_heads: int = 4,
    context_length: int = 128,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
) -> Stack:
    """Return a transformer over the latest steps, with rotary positions, as language models have.

    Source: Touvron et al. 2023, LLaMA, arXiv 2302.13971, section 2.2: norms on the way in, rotary
    positions, gated feed-forward networks.
    """
    check_positive("attention.num_layers", num_layers)
    dtypes = {"dtype": dtype, "param_dtype": param_dtype}
    config = SelfAttentionConfig(features, num_heads, context_length, RoPE())
    layer = (SelfAttention(config, **dtypes), GLU(features, 2, **dtypes))
    return residual_stack(features, layer, num_layers, nn.RMSNorm, dtypes)


def gpt2(
    features: int,
    num_layers: int = 2,
    num_heads: int = 4,
    context_length: int = 128,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
) -> Stack:
    """Return a transformer in the style of GPT-2, its learnt positions relative to the query.

    Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".
    """
    check_positive("gpt2.num_layers", num_layers)
    dtypes = {"dtype": dtype, "param_dtype": param_dtype}
    config = SelfAttentionConfig(
        features,
        num_heads,
        context_length,
        positional_embedding=LearnablePositionalEmbedding(param_dtype),
        use_bias=True,
    )
    layer = (SelfAttention(config, **dtypes), FFN(features, **dtypes))
    return residual_stack(features, layer, num_layers, nn.LayerNorm, dtypes)


def transformer_xl(
    features: int,
    num_layers: int = 2,
    num_heads: int = 4,
    context_length: int = 64,
    memory_length: int = 64,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
) -> Stack:
    """Return a Transformer-XL: relative positions, a memory without gradient, norms at the end.

    Source: Dai et al. 2019, arXiv 1901.02860.
    """
    check_positive("transformer_xl.num_layers", num_layers)
    dtypes = {"dtype": dtype, "param_dtype": param_dtype}
    attention = _attention_with_memory(features, num_heads, context_length, memory_length, dtypes)
    ffn = FFN(features, activation=nn.relu, **dtypes)
    layer = tuple(PostNorm(Residual(module), **dtypes) for module in (attention, ffn))
    return Stack((Projection(features, **dtypes), *layer * num_layers))


def gtrxl(
    features: int,
    num_layers: int = 2,
    num_heads: int = 4,
    context_length: int = 64,
    memory_length: int = 64,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
) -> Stack:
    """Return a gated Transformer-XL: norms on the way in, GRU gates in place of residuals.

    Source: Parisotto et al. 2020, arXiv 1910.06764.
    """
    check_positive("gtrxl.num_layers", num_layers)
    dtypes = {"dtype": dtype, "param_dtype": param_dtype}
    attention = _attention_with_memory(features, num_heads, context_length, memory_length, dtypes)
    ffn = FFN(features, activation=nn.relu, **dtypes)
    layer = tuple(GatedResidual(PreNorm(module, **dtypes), **dtypes) for module in (attention, ffn))
    return Stack((Projection(features, **dtypes), *layer * num_layers))


def _attention_with_memory(features, num_heads, context_length, memory_length, dtypes):
    embedding = RelativePositionalEmbedding(features, dtypes["param_dtype"])
    config = SelfAttentionConfig(features, num_heads, context_length, embedding)
    return SegmentRecurrence(SelfAttention(config, **dtypes), memory_length, features)
