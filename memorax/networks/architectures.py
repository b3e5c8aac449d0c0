"""Memories as published: layers of cells, norms, residuals and gates, composed of blocks.

Each function returns a torso of ``num_layers`` layers that are ``features`` wide, whatever the
width of its inputs. ``memory_horizon`` is how many steps the longest memory lasts before any
training (``None``: as the cell's configuration has it, and biases of 0 for GRU and LSTM). ``dtype``
is what to compute in (``None``: that of inputs and parameters), ``param_dtype`` that of the
parameters. Read one to write another.
"""

import math
from dataclasses import replace
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
    RWKV7Layers,
    SegmentRecurrence,
    Stack,
)
from memorax.networks.cells import (
    ChronoGRUCell,
    ChronoLSTMCell,
    DeltaNetCell,
    DeltaNetConfig,
    FFMCell,
    FFMConfig,
    GatedDeltaNetCell,
    GatedDeltaNetConfig,
    GatedLinearAttentionCell,
    GatedLinearAttentionConfig,
    KimiDeltaAttentionCell,
    KimiDeltaAttentionConfig,
    LinearAttentionCell,
    LinearAttentionConfig,
    LRUCell,
    LRUConfig,
    Mamba2Cell,
    Mamba2Config,
    Mamba3Cell,
    Mamba3Config,
    MinGRUCell,
    MinGRUConfig,
    RGLRUCell,
    RGLRUConfig,
    RTUCell,
    RTUConfig,
    RWKV7Config,
    S5Cell,
    S5Config,
    SHMCell,
    SHMConfig,
    mLSTMCell,
    mLSTMConfig,
    sLSTMCell,
    sLSTMConfig,
)
from memorax.networks.initializers import ring_of
from memorax.networks.positional_embeddings import (
    LearnablePositionalEmbedding,
    RelativePositionalEmbedding,
    RoPE,
)
from memorax.networks.sequence_models import (
    RNN,
    CausalConv1d,
    Memoroid,
    RL2Wrapper,
    SelfAttention,
    SelfAttentionConfig,
)
from memorax.validation import check_between, check_positive

LONGEST_MEMORY_BY_STEPS = 10_000.0
"""Steps, of a memory whose decays have a step size, for the least that a configuration takes."""

LARGEST_PHASE = math.pi / 2
"""Of a diagonal state at first: large enough to tell the last few inputs apart, small enough that
some states hardly turn over a long memory. With pi / 10, the LRU authors' for their longest task,
two layers of LRU failed RepeatPrevious; with all phases they learned RepeatFirst last."""


def gru(
    features: int,
    num_layers: int = 1,
    memory_horizon: int | float | None = 100,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
) -> Stack:
    """Return GRU layers, one above the other.

    Source: Cho et al. 2014, arXiv 1406.1078; layers as in Graves 2013, arXiv 1308.0850.
    """
    check_positive("gru.num_layers", num_layers)
    fields = {"features": features, "dtype": dtype, "param_dtype": param_dtype}
    cell = nn.GRUCell(**fields)
    if memory_horizon is not None:
        cell = ChronoGRUCell(**fields, memory_horizon=memory_horizon)
    return Stack((RNN(cell),) * num_layers)


def lstm(
    features: int,
    num_layers: int = 1,
    memory_horizon: int | float | None = 100,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
) -> Stack:
    """Return LSTM layers, one above the other.

    Source: Hochreiter and Schmidhuber 1997, "Long short-term memory"; layers as in Graves 2013,
    arXiv 1308.0850.
    """
    check_positive("lstm.num_layers", num_layers)
    fields = {"features": features, "dtype": dtype, "param_dtype": param_dtype}
    cell = nn.OptimizedLSTMCell(**fields)
    if memory_horizon is not None:
        cell = ChronoLSTMCell(**fields, memory_horizon=memory_horizon)
    return Stack((RNN(cell),) * num_layers)


def simple(
    features: int, num_layers: int = 1, dtype: Any = None, param_dtype: Any = jnp.float32
) -> Stack:
    """Return layers of the simple recurrent network, one above the other.

    Source: Elman 1990, "Finding structure in time".
    """
    check_positive("simple.num_layers", num_layers)
    cell = nn.SimpleCell(features, dtype=dtype, param_dtype=param_dtype)
    return Stack((RNN(cell),) * num_layers)


def shm(
    features: int, num_layers: int = 1, dtype: Any = None, param_dtype: Any = jnp.float32
) -> Stack:
    """Return layers of the stable Hadamard memory, one above the other, 16 x 16 each.

    Source: Le et al. 2024, arXiv 2410.10132.
    """
    check_positive("shm.num_layers", num_layers)
    cell = SHMCell(SHMConfig(16, output_features=features), dtype=dtype, param_dtype=param_dtype)
    return Stack((RNN(cell),) * num_layers)


def rtu(
    features: int,
    num_layers: int = 1,
    memory_horizon: int | float | None = None,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
) -> Stack:
    """Return layers of recurrent trace units, one above the other.

    Source: Elelimy et al. 2024, arXiv 2409.01449.
    """
    check_positive("rtu.num_layers", num_layers)
    config = RTUConfig(features, features)
    if memory_horizon is not None:
        r_min, r_max = ring_of(memory_horizon)
        config = replace(config, r_min=r_min, r_max=r_max, max_phase=LARGEST_PHASE)
    return Stack((RNN(RTUCell(config, dtype=dtype, param_dtype=param_dtype)),) * num_layers)


def ffm(
    features: int,
    num_layers: int = 1,
    memory_horizon: int | float | None = None,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
) -> Stack:
    """Return layers of fast and forgetful memory, whose norm, gates and skip are inside the cell.

    Its contexts begin with periods that are spaced logarithmically from 2 steps on, since of the
    authors', spaced linearly from 1, none tells the last few steps apart.

    Source: Morad et al. 2023, arXiv 2310.04128, section 4.
    """
    check_positive("ffm.num_layers", num_layers)
    config = FFMConfig(features, min_period=2.0, period_spacing="logarithmic")
    if memory_horizon is not None:
        config = replace(config, max_period=float(memory_horizon))
    return Stack((Memoroid(FFMCell(config, dtype=dtype, param_dtype=param_dtype)),) * num_layers)


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
    layer = (SelfAttention(config, **dtypes), FFN(features, **dtypes))
    return _residual_stack(features, layer, num_layers, nn.LayerNorm, dtypes)


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
    return _residual_stack(features, layer, num_layers, nn.RMSNorm, dtypes)


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
    return _residual_stack(features, layer, num_layers, nn.LayerNorm, dtypes)


def xlstm(
    features: int,
    num_layers: int = 2,
    num_heads: int = 4,
    memory_horizon: int | float | None = None,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
) -> Stack:
    """Return an xLSTM: mLSTM layers and sLSTM layers by turns, an mLSTM first.

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
    return _residual_stack(features, blocks, 1, nn.LayerNorm, dtypes)


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
    return _residual_stack(features, layer, num_layers, nn.LayerNorm, dtypes)


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
    return _residual_stack(features, layer, num_layers, nn.LayerNorm, dtypes)


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
    config = replace(config, **_steps_for("mamba2", memory_horizon, config.min_decay))
    layer = (Memoroid(Mamba2Cell(config, **dtypes)),)
    return _residual_stack(features, layer, num_layers, nn.RMSNorm, dtypes)


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
    config = replace(config, **_steps_for("mamba3", memory_horizon, math.log(2)))
    layer = (Memoroid(Mamba3Cell(config, **dtypes)), GLU(features, 2, **dtypes))
    return _residual_stack(features, layer, num_layers, nn.RMSNorm, dtypes)


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
    return _residual_stack(features, layer, num_layers, nn.RMSNorm, dtypes)


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
    config = replace(config, **_steps_for("gated_delta_net", memory_horizon, config.min_decay))
    layer = (Memoroid(GatedDeltaNetCell(config, **dtypes)), GLU(features, 2, **dtypes))
    return _residual_stack(features, layer, num_layers, nn.RMSNorm, dtypes)


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
    steps = _steps_for("kimi_delta_attention", memory_horizon, config.min_decay)
    cell = KimiDeltaAttentionCell(replace(config, **steps), **dtypes)
    layer = (Memoroid(cell), GLU(features, 2, **dtypes))
    return _residual_stack(features, layer, num_layers, nn.RMSNorm, dtypes)


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
    config = GatedLinearAttentionConfig(features, num_heads, conv_dim=4)
    layer = (Memoroid(GatedLinearAttentionCell(config, **dtypes)), GLU(features, 2, **dtypes))
    return _residual_stack(features, layer, num_layers, nn.RMSNorm, dtypes)


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


def rg_lru(
    features: int,
    num_layers: int = 2,
    num_heads: int = 4,
    memory_horizon: int | float | None = None,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
) -> Stack:
    """Return the recurrent layers of Griffin: RG-LRU, then a gated feed-forward network.

    Source: De et al. 2024, arXiv 2402.19427, section 2; Hawk, without layers of local attention.
    """
    check_positive("rg_lru.num_layers", num_layers)
    dtypes = {"dtype": dtype, "param_dtype": param_dtype}
    config = RGLRUConfig(features, num_heads=num_heads)
    if memory_horizon is not None:
        # With its gate half open, a state decays by the fourth power.
        r_min, r_max = ring_of(4 * memory_horizon)
        config = replace(config, r_min=r_min, r_max=r_max)
    layer = (Memoroid(RGLRUCell(config, **dtypes)), GLU(features, 3, nn.gelu, **dtypes))
    return _residual_stack(features, layer, num_layers, nn.RMSNorm, dtypes)


def s5(
    features: int,
    num_layers: int = 2,
    memory_horizon: int | float | None = None,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
) -> Stack:
    """Return a stack of S5 layers: the states, GELU, and a gated linear unit.

    Source: Smith et al. 2023, arXiv 2208.04933; the unit as in the authors' code, with a linear
    map behind it.
    """
    check_positive("s5.num_layers", num_layers)
    dtypes = {"dtype": dtype, "param_dtype": param_dtype}
    config = S5Config(features, 2 * features)
    if memory_horizon is not None:
        # The real parts of the eigenvalues begin at -1/2: a state lasts 2 / step steps.
        config = replace(config, min_step=2 / memory_horizon, max_step=200 / memory_horizon)
    layer = _gated_layer(Memoroid(S5Cell(config, **dtypes)), features, dtypes)
    return _residual_stack(features, layer, num_layers, nn.LayerNorm, dtypes)


def lru(
    features: int,
    num_layers: int = 2,
    memory_horizon: int | float | None = 200,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
) -> Stack:
    """Return a stack of LRU layers: the states, GELU, and a gated linear unit.

    The states' moduli begin on a ring of memories from a hundredth of ``memory_horizon`` steps to
    all of it, and their phases within pi / 2. ``None``: the ring of ``LRUConfig``, which reaches a
    hundred steps and all phases.

    Source: Orvieto et al. 2023, arXiv 2303.06349, figure 1 and table 10.
    """
    check_positive("lru.num_layers", num_layers)
    dtypes = {"dtype": dtype, "param_dtype": param_dtype}
    config = LRUConfig(features, features)
    if memory_horizon is not None:
        r_min, r_max = ring_of(memory_horizon)
        config = replace(config, r_min=r_min, r_max=r_max, max_phase=LARGEST_PHASE)
    layer = _gated_layer(Memoroid(LRUCell(config, **dtypes)), features, dtypes)
    return _residual_stack(features, layer, num_layers, nn.LayerNorm, dtypes)


def min_gru(
    features: int,
    num_layers: int = 2,
    memory_horizon: int | float | None = 100,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
) -> Stack:
    """Return a stack of minGRU layers: a convolution, the cell, then a feed-forward network.

    The gates do not see the state, so that the convolution, over the last 4 steps, tells them what
    has just been.

    Source: Feng et al. 2024, arXiv 2410.01201, experiments; one residual around cell and network,
    which costs no more than the cell.
    """
    check_positive("min_gru.num_layers", num_layers)
    dtypes = {"dtype": dtype, "param_dtype": param_dtype}
    config = MinGRUConfig(features, memory_horizon=memory_horizon)
    memory = Memoroid(MinGRUCell(config, **dtypes))
    layer = (CausalConv1d(features, **dtypes), Stack((memory, FFN(features, 1, **dtypes))))
    return _residual_stack(features, layer, num_layers, nn.RMSNorm, dtypes)


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


def _mlstm_layer(features, num_heads, memory_horizon, dtypes):
    config = mLSTMConfig(features, 2 * features, num_heads, memory_horizon=memory_horizon)
    return (Memoroid(mLSTMCell(config, **dtypes)),)


def _slstm_layer(features, num_heads, memory_horizon, dtypes):
    config = sLSTMConfig(features, features, num_heads, conv_dim=4, memory_horizon=memory_horizon)
    return RNN(sLSTMCell(config, **dtypes)), GLU(features, 4 / 3, nn.gelu, **dtypes)


def _steps_for(name, memory_horizon, least_decay):
    """Return the step sizes with which the longest state lasts that long, none for ``None``."""
    if memory_horizon is None:
        return {}
    check_between(f"{name}.memory_horizon", memory_horizon, 2.0, LONGEST_MEMORY_BY_STEPS)
    # A state lasts 1 / (decay * step) steps, the longest with the least of both.
    longest = least_decay * memory_horizon
    return {"min_step": 1 / longest, "max_step": 100 / longest}


def _gated_layer(memory, features, dtypes):
    """Return the layer of state space models: one residual around memory, GELU and GLU."""
    return (Stack((memory, nn.gelu, GLU(features, 1, nn.sigmoid, **dtypes))),)


def _residual_stack(features, layer, num_layers, norm, dtypes):
    """Return layers with a norm before and a residual around each module, and a norm at the end."""
    layer = tuple(Residual(PreNorm(module, norm, **dtypes)) for module in layer)
    return Stack((Projection(features, **dtypes), *layer * num_layers, norm(**dtypes)))
