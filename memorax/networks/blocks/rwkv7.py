"""RWKV-7 as published: layers of time and channel mixing that share the first one's values."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from memorax.networks.cells.rwkv7 import RWKV7Cell, RWKV7ChannelMixing, RWKV7Config
from memorax.networks.sequence_models.base import (
    Carry,
    SequenceModel,
    checked_carry,
    checked_inputs,
)
from memorax.validation import check_positive


class RWKV7Layers(SequenceModel):
    """Layers of RWKV-7, each a residual around time mixing and one around channel mixing.

    Every layer after the first mixes the first one's values into its own, which is why they are no
    ``Stack``. Each mixing reads its inputs through a layer norm.

    The carry has for each layer that of its ``RWKV7Cell``, and the channel mixing's last input.

    Attributes:
        config: Of each layer's time mixing; the inputs must be ``config.features`` wide.
        num_layers: Number of layers.
        dtype: Dtype of the computation; ``None``: that of inputs and parameters.
        param_dtype: Of parameters and carry.

    Raises:
        ValueError: At construction, if ``num_layers`` is not positive; at the call, if the inputs
            are not ``features`` wide, or as ``SequenceModel``.

    Source: Peng et al. 2025, arXiv 2503.14456, figure 1 and section 4.

    Examples:
        >>> torso = RWKV7Layers(RWKV7Config(features=8, num_heads=2), num_layers=2)
        >>> (carry, outputs), params = jax.eval_shape(torso.init_with_output, key, inputs)
        >>> [leaf.shape for leaf in jax.tree.leaves(carry)]
        [(2, 2, 4, 4), (2, 8), (2, 8), (2, 2, 4, 4), (2, 8), (2, 8)]
        >>> outputs.shape
        (2, 5, 8)
    """

    config: RWKV7Config
    num_layers: int
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        """Check the fields."""
        check_positive("RWKV7Layers.num_layers", self.num_layers)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        inputs: Float[Array, "batch time features"],
        done: Bool[Array, "batch time"] | None = None,
        initial_carry: Carry | None = None,
    ) -> tuple[Carry, Float[Array, "batch time features"]]:
        """Read a chunk of a sequence; see ``SequenceModel``."""
        x, done = checked_inputs(self, inputs, done)
        if x.shape[-1] != self.config.features:
            raise ValueError(
                f"RWKV7Layers.config.features must be the width of the inputs, {x.shape[-1]}, got "
                f"{self.config.features}"
            )
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        carry, first_value = [], None
        for number, before in enumerate(checked_carry(self, initial_carry, x)):

            def norm(values, name, number=number):
                return nn.LayerNorm(name=f"{name}_norm_{number}", **dtypes)(values)

            cell = RWKV7Cell(self.config, name=f"time_mixing_{number}", **dtypes)
            memory, y, value = cell.mix(norm(x, "time"), done, before[0], first_value=first_value)
            first_value = value if first_value is None else first_value
            x = x + y
            channels = RWKV7ChannelMixing(
                self.config.features, name=f"channel_mixing_{number}", **dtypes
            )
            last, y = channels(norm(x, "channel"), done, before[1])
            x = x + y
            carry.append((memory, last))
        return tuple(carry), x

    @nn.nowrap
    def initialize_carry(self, key: Array, input_shape: tuple[int, ...]) -> Carry:
        """Return for each layer an empty memory and last inputs of zeros."""
        batch, features = input_shape[0], self.config.features
        cell = RWKV7Cell(self.config, param_dtype=self.param_dtype, parent=None)
        memory = cell.initialize_carry(key, (batch, features))
        return ((memory, jnp.zeros((batch, features), self.param_dtype)),) * self.num_layers
