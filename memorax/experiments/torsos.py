"""Torsos by name."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn

from memorax.networks import RNN

TORSOS: dict[str, Callable[[int], Any]] = {
    "gru": lambda features: RNN(cell=nn.GRUCell(features=features)),
    "lstm": lambda features: RNN(cell=nn.OptimizedLSTMCell(features=features)),
    "simple": lambda features: RNN(cell=nn.SimpleCell(features=features)),
    "mlp": lambda features: nn.Sequential((nn.Dense(features), nn.relu)),
}
"""What each name builds, given the number of features."""
