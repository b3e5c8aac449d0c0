"""Recurrent networks that step through time, as layers one above the other."""

from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from memorax.networks.architectures.common import LARGEST_PHASE
from memorax.networks.blocks import Stack
from memorax.networks.cells import (
    ChronoGRUCell,
    ChronoLSTMCell,
    RTUCell,
    RTUConfig,
    SHMCell,
    SHMConfig,
)
from memorax.networks.initializers import ring_of
from memorax.networks.sequence_models import RNN, RL2Wrapper
from memorax.validation import check_positive


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
    cell = SHMCell(SHMConfig(features, hidden_dim=16), dtype=dtype, param_dtype=param_dtype)
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
