"""Memories with a linear recurrence over a vector: state space models and gated units."""

from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from memorax.networks.architectures.common import LARGEST_PHASE, residual_stack
from memorax.networks.blocks import FFN, GLU, Stack
from memorax.networks.cells import (
    FFMCell,
    FFMConfig,
    LRUCell,
    LRUConfig,
    MinGRUCell,
    MinGRUConfig,
    RGLRUCell,
    RGLRUConfig,
    S5Cell,
    S5Config,
)
from memorax.networks.initializers import ring_of
from memorax.networks.sequence_models import CausalConv1d, Memoroid
from memorax.validation import check_positive


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
    return residual_stack(features, layer, num_layers, nn.LayerNorm, dtypes)


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
    return residual_stack(features, layer, num_layers, nn.LayerNorm, dtypes)


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
    return residual_stack(features, layer, num_layers, nn.RMSNorm, dtypes)


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
    return residual_stack(features, layer, num_layers, nn.RMSNorm, dtypes)


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


def _gated_layer(memory, features, dtypes):
    """Return the layer of state space models: one residual around memory, GELU and GLU."""
    return (Stack((memory, nn.gelu, GLU(features, 1, nn.sigmoid, **dtypes))),)
