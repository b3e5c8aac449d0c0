"""Known architectures, composed of blocks.

Each function returns a torso of ``num_layers`` layers that are ``features`` wide, whatever the
width of its inputs. ``dtype`` is what to compute in (``None``: that of inputs and parameters),
``param_dtype`` that of the parameters. Read one to write another.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

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
from memorax.networks.cells import (
    Mamba2Cell,
    Mamba2Config,
    MinGRUCell,
    MinGRUConfig,
    S5Cell,
    S5Config,
    mLSTMCell,
    mLSTMConfig,
    sLSTMCell,
    sLSTMConfig,
)
from memorax.networks.positional_embeddings import (
    LearnablePositionalEmbedding,
    RelativePositionalEmbedding,
)
from memorax.networks.sequence_models import (
    RNN,
    Memoroid,
    RL2Wrapper,
    SelfAttention,
    SelfAttentionConfig,
)
from memorax.validation import check_positive


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
    layer = tuple(
        Residual(PreNorm(module, **dtypes))
        for module in (SelfAttention(config, **dtypes), FFN(features, **dtypes))
    )
    return Stack((Projection(features, **dtypes), *layer * num_layers, nn.LayerNorm(**dtypes)))


def xlstm(
    features: int,
    num_layers: int = 2,
    num_heads: int = 4,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
) -> Stack:
    """Return an xLSTM: mLSTM layers and sLSTM layers by turns, an mLSTM first.

    Source: Beck et al. 2024, arXiv 2405.04517, figures 9 and 10; hidden layers twice the features
    for an mLSTM, 4/3 of them behind an sLSTM.
    """
    check_positive("xlstm.num_layers", num_layers)
    dtypes = {"dtype": dtype, "param_dtype": param_dtype}
    mlstm = mLSTMConfig(features, 2 * features, num_heads)
    slstm = sLSTMConfig(features, features, num_heads, conv_dim=4)
    mlstm_layer = (Memoroid(mLSTMCell(mlstm, **dtypes)),)
    slstm_layer = (RNN(sLSTMCell(slstm, **dtypes)), GLU(features, 4 / 3, nn.gelu, **dtypes))
    layers = [slstm_layer if number % 2 else mlstm_layer for number in range(num_layers)]
    blocks = [Residual(PreNorm(module, **dtypes)) for layer in layers for module in layer]
    return Stack((Projection(features, **dtypes), *blocks, nn.LayerNorm(**dtypes)))


def mamba2(
    features: int,
    num_layers: int = 2,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
) -> Stack:
    """Return a stack of Mamba-2 layers.

    Source: Dao and Gu 2024, arXiv 2405.21060.
    """
    check_positive("mamba2.num_layers", num_layers)
    dtypes = {"dtype": dtype, "param_dtype": param_dtype}
    memory = Memoroid(Mamba2Cell(Mamba2Config(features), **dtypes))
    layer = Residual(PreNorm(memory, nn.RMSNorm, **dtypes))
    return Stack((Projection(features, **dtypes), *(layer,) * num_layers, nn.RMSNorm(**dtypes)))


def s5(
    features: int,
    num_layers: int = 2,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
) -> Stack:
    """Return a stack of S5 layers: the states, GELU, and a gated linear unit.

    Source: Smith et al. 2023, arXiv 2208.04933; the unit as in the authors' code, with a linear
    map behind it.
    """
    check_positive("s5.num_layers", num_layers)
    dtypes = {"dtype": dtype, "param_dtype": param_dtype}
    memory = Memoroid(S5Cell(S5Config(features, 2 * features), **dtypes))
    gated = Stack((memory, nn.gelu, GLU(features, 1, nn.sigmoid, **dtypes)))
    layer = Residual(PreNorm(gated, **dtypes))
    return Stack((Projection(features, **dtypes), *(layer,) * num_layers, nn.LayerNorm(**dtypes)))


def min_gru(
    features: int,
    num_layers: int = 2,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
) -> Stack:
    """Return a stack of minGRU layers, each followed by a feed-forward network.

    Source: Feng et al. 2024, arXiv 2410.01201.
    """
    check_positive("min_gru.num_layers", num_layers)
    dtypes = {"dtype": dtype, "param_dtype": param_dtype}
    memory = Memoroid(MinGRUCell(MinGRUConfig(features), **dtypes))
    layer = tuple(
        Residual(PreNorm(module, nn.RMSNorm, **dtypes))
        for module in (memory, FFN(features, **dtypes))
    )
    return Stack((Projection(features, **dtypes), *layer * num_layers, nn.RMSNorm(**dtypes)))


def rl2_gru(
    features: int,
    steps_per_trial: int,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
) -> RL2Wrapper:
    """Return the GRU of RL², which remembers across the episodes of a trial.

    The feature extractor has to show it actions, rewards and where episodes begin.

    Source: Duan et al. 2016, arXiv 1611.02779.
    """
    gru = RNN(nn.GRUCell(features, dtype=dtype, param_dtype=param_dtype))
    return RL2Wrapper(gru, steps_per_trial)


def _attention_with_memory(features, num_heads, context_length, memory_length, dtypes):
    embedding = RelativePositionalEmbedding(features, dtypes["param_dtype"])
    config = SelfAttentionConfig(features, num_heads, context_length, embedding)
    return SegmentRecurrence(SelfAttention(config, **dtypes), memory_length, features)
