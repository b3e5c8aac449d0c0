"""Memories with a matrix state for each head: linear attention, the delta rule, Mamba and xLSTM."""

import math
from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from memorax.networks.architectures.common import residual_stack, steps_for
from memorax.networks.blocks import FFN, GLU, Projection, RWKV7Layers, Stack
from memorax.networks.cells import (
    DeltaNetCell,
    DeltaNetConfig,
    GatedDeltaNetCell,
    GatedDeltaNetConfig,
    GatedLinearAttentionCell,
    GatedLinearAttentionConfig,
    KimiDeltaAttentionCell,
    KimiDeltaAttentionConfig,
    LinearAttentionCell,
    LinearAttentionConfig,
    Mamba2Cell,
    Mamba2Config,
    Mamba3Cell,
    Mamba3Config,
    RWKV7Config,
    mLSTMCell,
    mLSTMConfig,
    sLSTMCell,
    sLSTMConfig,
)
from memorax.networks.sequence_models import RNN, CausalConv1d, Memoroid
from memorax.validation import check_positive


def linear_attention(
    features: int,
    num_layers: int = 2,
    num_heads: int = 4,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
) -> Stack:
    """Return a transformer whose attention is linear, each layer with its feed-forward network.

    Linear attention is blind to order, so that a convolution over the last 4 steps gives positions.

    Source: Katharopoulos et al. 2020, arXiv 2006.16236, equation 1 and section 3.4; norms on the
    way in; positions as in Chu et al. 2021, arXiv 2102.10882.
    """
    check_positive("linear_attention.num_layers", num_layers)
    dtypes = {"dtype": dtype, "param_dtype": param_dtype}
    config = LinearAttentionConfig(features, num_heads, max(features // num_heads, 1))
    memory = Memoroid(LinearAttentionCell(config, **dtypes))
    layer = (CausalConv1d(features, **dtypes), memory, FFN(features, 2, **dtypes))
    return residual_stack(features, layer, num_layers, nn.LayerNorm, dtypes)


def gated_linear_attention(
    features: int,
    num_layers: int = 2,
    num_heads: int = 4,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
) -> Stack:
    """Return a stack of gated linear attention, each layer with a gated feed-forward network.

    A convolution over the last 4 steps, which the authors' code has as an option, tells the last
    inputs apart.

    Source: Yang et al. 2023, arXiv 2312.06635, section 4.4.
    """
    check_positive("gated_linear_attention.num_layers", num_layers)
    dtypes = {"dtype": dtype, "param_dtype": param_dtype}
    config = GatedLinearAttentionConfig(features, num_heads, kernel_size=4)
    layer = (Memoroid(GatedLinearAttentionCell(config, **dtypes)), GLU(features, 2, **dtypes))
    return residual_stack(features, layer, num_layers, nn.RMSNorm, dtypes)


def delta_net(
    features: int,
    num_layers: int = 1,
    num_heads: int = 4,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
) -> Stack:
    """Return a stack of DeltaNet layers, each followed by a gated feed-forward network.

    Source: Yang et al. 2024, arXiv 2406.06484, section 3.4.
    """
    check_positive("delta_net.num_layers", num_layers)
    dtypes = {"dtype": dtype, "param_dtype": param_dtype}
    memory = Memoroid(DeltaNetCell(DeltaNetConfig(features, num_heads), **dtypes))
    layer = (memory, GLU(features, 2, **dtypes))
    return residual_stack(features, layer, num_layers, nn.RMSNorm, dtypes)


def gated_delta_net(
    features: int,
    num_layers: int = 1,
    num_heads: int = 4,
    memory_horizon: int | float | None = None,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
) -> Stack:
    """Return a stack of Gated DeltaNet layers, each followed by a gated feed-forward network.

    Source: Yang et al. 2024, arXiv 2412.06464, figure 1.
    """
    check_positive("gated_delta_net.num_layers", num_layers)
    dtypes = {"dtype": dtype, "param_dtype": param_dtype}
    config = GatedDeltaNetConfig(features, num_heads)
    config = replace(config, **steps_for("gated_delta_net", memory_horizon, config.min_decay))
    layer = (Memoroid(GatedDeltaNetCell(config, **dtypes)), GLU(features, 2, **dtypes))
    return residual_stack(features, layer, num_layers, nn.RMSNorm, dtypes)


def kimi_delta_attention(
    features: int,
    num_layers: int = 1,
    num_heads: int = 4,
    memory_horizon: int | float | None = None,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
) -> Stack:
    """Return a stack of Kimi Delta Attention, each layer with a gated feed-forward network.

    Source: Kimi Team 2025, arXiv 2510.26692, section 4; without its layers of full attention and
    its experts.
    """
    check_positive("kimi_delta_attention.num_layers", num_layers)
    dtypes = {"dtype": dtype, "param_dtype": param_dtype}
    config = KimiDeltaAttentionConfig(features, num_heads)
    steps = steps_for("kimi_delta_attention", memory_horizon, config.min_decay)
    cell = KimiDeltaAttentionCell(replace(config, **steps), **dtypes)
    layer = (Memoroid(cell), GLU(features, 2, **dtypes))
    return residual_stack(features, layer, num_layers, nn.RMSNorm, dtypes)


def rwkv7(
    features: int,
    num_layers: int = 2,
    num_heads: int = 4,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
) -> Stack:
    """Return layers of RWKV-7: time mixing, then channel mixing, with layer norms.

    Source: Peng et al. 2025, arXiv 2503.14456, figure 1.
    """
    check_positive("rwkv7.num_layers", num_layers)
    dtypes = {"dtype": dtype, "param_dtype": param_dtype}
    layers = RWKV7Layers(RWKV7Config(features, num_heads), num_layers, **dtypes)
    norm = nn.LayerNorm(**dtypes)
    return Stack((Projection(features, **dtypes), norm, layers, nn.LayerNorm(**dtypes)))


def mamba2(
    features: int,
    num_layers: int = 1,
    memory_horizon: int | float | None = None,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
) -> Stack:
    """Return a stack of Mamba-2 layers.

    Source: Dao and Gu 2024, arXiv 2405.21060.
    """
    check_positive("mamba2.num_layers", num_layers)
    dtypes = {"dtype": dtype, "param_dtype": param_dtype}
    config = Mamba2Config(features)
    config = replace(config, **steps_for("mamba2", memory_horizon, config.min_decay))
    layer = (Memoroid(Mamba2Cell(config, **dtypes)),)
    return residual_stack(features, layer, num_layers, nn.RMSNorm, dtypes)


def mamba3(
    features: int,
    num_layers: int = 2,
    memory_horizon: int | float | None = None,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
) -> Stack:
    """Return a stack of Mamba-3 layers, each followed by a gated feed-forward network.

    Source: Lahoti et al. 2026, arXiv 2603.15569.
    """
    check_positive("mamba3.num_layers", num_layers)
    dtypes = {"dtype": dtype, "param_dtype": param_dtype}
    config = Mamba3Config(features)
    # softplus(A) is log(2) at first.
    config = replace(config, **steps_for("mamba3", memory_horizon, math.log(2)))
    layer = (Memoroid(Mamba3Cell(config, **dtypes)), GLU(features, 2, **dtypes))
    return residual_stack(features, layer, num_layers, nn.RMSNorm, dtypes)


def mlstm(
    features: int,
    num_layers: int = 1,
    num_heads: int = 4,
    memory_horizon: int | float | None = None,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
) -> Stack:
    """Return a stack of mLSTM blocks.

    Source: Beck et al. 2024, arXiv 2405.04517, figure 10.
    """
    check_positive("mlstm.num_layers", num_layers)
    dtypes = {"dtype": dtype, "param_dtype": param_dtype}
    layer = _mlstm_layer(features, num_heads, memory_horizon, dtypes)
    return residual_stack(features, layer, num_layers, nn.LayerNorm, dtypes)


def slstm(
    features: int,
    num_layers: int = 1,
    num_heads: int = 4,
    memory_horizon: int | float | None = None,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
) -> Stack:
    """Return a stack of sLSTM blocks, each followed by a gated feed-forward network.

    Source: Beck et al. 2024, arXiv 2405.04517, figure 9.
    """
    check_positive("slstm.num_layers", num_layers)
    dtypes = {"dtype": dtype, "param_dtype": param_dtype}
    layer = _slstm_layer(features, num_heads, memory_horizon, dtypes)
    return residual_stack(features, layer, num_layers, nn.LayerNorm, dtypes)


def xlstm(
    features: int,
    num_layers: int = 2,
    num_heads: int = 4,
    memory_horizon: int | float | None = None,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
) -> Stack:
    """Return an xLSTM: mLSTM and sLSTM layers alternate, an mLSTM first.

    Source: Beck et al. 2024, arXiv 2405.04517, figures 9 and 10; hidden layers twice the features
    for an mLSTM, 4/3 of them behind an sLSTM.
    """
    check_positive("xlstm.num_layers", num_layers)
    dtypes = {"dtype": dtype, "param_dtype": param_dtype}
    sizes = features, num_heads, memory_horizon, dtypes
    layers = [
        _slstm_layer(*sizes) if number % 2 else _mlstm_layer(*sizes) for number in range(num_layers)
    ]
    blocks = tuple(module for layer in layers for module in layer)
    return residual_stack(features, blocks, 1, nn.LayerNorm, dtypes)


def _mlstm_layer(features, num_heads, memory_horizon, dtypes):
    config = mLSTMConfig(features, 2 * features, num_heads, memory_horizon=memory_horizon)
    return (Memoroid(mLSTMCell(config, **dtypes)),)


def _slstm_layer(features, num_heads, memory_horizon, dtypes):
    config = sLSTMConfig(features, features, num_heads, 4, memory_horizon)
    return RNN(sLSTMCell(config, **dtypes)), GLU(features, 4 / 3, nn.gelu, **dtypes)
