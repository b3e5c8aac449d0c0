"""Layers with a matrix state for each head, which keys write and queries read.

With a convolution over the last steps and SiLU where ``kernel_size`` is given::

    q, k, v = silu(convolution(W x))
    S', y   = recurrence(S, q, k, v)
    out     = W_out (RMSNorm(y) silu(W_gate x))

A cell defines the recurrence, and may define another gate.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from memorax.networks.layers import QueryKeyValue, head_wise_rms_norm, initial_window, linear
from memorax.networks.sequence_models.base import Carry
from memorax.networks.sequence_models.memoroid import MemoroidCell
from memorax.ops.delta_rule import IMPLEMENTATIONS
from memorax.ops.implementation import Implementation
from memorax.validation import check_between, check_positive


@dataclass(frozen=True)
class MatrixMemoryConfig:
    """Sizes of a layer with matrix states.

    Attributes:
        features: Width of the outputs.
        num_heads: Number of heads.
        key_dim: Width of a head's queries and keys; ``None``: ``features / num_heads``.
        value_dim: Width of a head's values; ``None``: that of its keys.
        kernel_size: Steps that the convolution over queries, keys and values sees; ``None``: no
            convolution.
        use_conv_bias: Whether the convolution has a bias.
        norm_epsilon: Of the norm over each head's outputs.

    Raises:
        ValueError: If a field is out of its range, or ``num_heads`` does not divide ``features``
            where ``key_dim`` is ``None``.
    """

    features: int
    num_heads: int = 4
    key_dim: int | None = None
    value_dim: int | None = None
    kernel_size: int | None = 4
    use_conv_bias: bool = False
    norm_epsilon: float = 1e-5

    def __post_init__(self):
        """Check the fields."""
        name = type(self).__name__
        check_positive(f"{name}.features", self.features)
        check_positive(f"{name}.num_heads", self.num_heads)
        for field in ("key_dim", "value_dim", "kernel_size"):
            if getattr(self, field) is not None:
                check_positive(f"{name}.{field}", getattr(self, field))
        if self.key_dim is None and self.features % self.num_heads:
            raise ValueError(
                f"{name}.features must be divisible by num_heads where key_dim is None, got "
                f"features={self.features}, num_heads={self.num_heads}"
            )
        check_between(f"{name}.norm_epsilon", self.norm_epsilon, 0.0)

    @property
    def head_sizes(self) -> tuple[int, int]:
        """Width of a head's keys, and of its values."""
        key_dim = self.key_dim or self.features // self.num_heads
        return key_dim, self.value_dim or key_dim


class MatrixMemoryCell(MemoroidCell):
    """A layer with a matrix state for each head; a subclass defines ``recurrence``.

    The carry is the state S of each head, ``(batch, heads, key_dim, value_dim)``, and the
    convolution's last ``kernel_size - 1`` inputs, ``()`` without convolution.

    Attributes:
        config: Sizes and initialisation.
        dtype: Of the projections and the convolution; ``None``: of inputs and parameters. The
            recurrence is computed in ``param_dtype``.
        param_dtype: Of parameters and carry.
    """

    implementations = IMPLEMENTATIONS

    config: Any
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def recurrence(
        self,
        inputs: Float[Array, "batch time features"],
        query: Float[Array, "batch time groups key_dim"],
        key: Float[Array, "batch time groups key_dim"],
        value: Float[Array, "batch time heads value_dim"],
        done: Bool[Array, "batch time"],
        state: Float[Array, "batch heads key_dim value_dim"],
        implementation: Implementation,
        chunk_size: int | None,
    ) -> tuple[Array, Array]:
        """Return the last state and what was read, ``(batch, time, heads, value_dim)``."""
        raise NotImplementedError(f"{type(self).__name__} must implement recurrence")

    def gate(self, inputs: Float[Array, "batch time features"]) -> Array | None:
        """Return what the outputs are multiplied with, silu(W_gate x), or ``None`` without gate."""
        if not self.config.use_gate:
            return None
        width = self.num_value_heads() * self.config.head_sizes[1]
        return jax.nn.silu(linear(self, width, "gate")(inputs))

    @nn.compact
    def __call__(
        self,
        inputs: Float[Array, "batch time features"],
        done: Bool[Array, "batch time"],
        carry: Carry,
        implementation: Implementation,
        chunk_size: int | None,
    ) -> tuple[Carry, Float[Array, "batch time features_out"]]:
        """Read a chunk of a sequence; see ``MemoroidCell``."""
        config = self.config
        state, window = carry
        key_dim, value_dim = config.head_sizes
        query_key_value = QueryKeyValue(
            *(config.num_heads, key_dim, self.num_value_heads(), value_dim),
            *(config.kernel_size, config.use_conv_bias, self.activation()),
            *(self.dtype, self.param_dtype),
            name="query_key_value",
        )
        window, (q, k, v) = query_key_value(inputs, done, window)
        state, y = self.recurrence(inputs, q, k, v, done, state, implementation, chunk_size)
        norm = self.param("norm", nn.initializers.ones, (value_dim,), self.param_dtype)
        y = head_wise_rms_norm(y, norm, config.norm_epsilon).reshape(*inputs.shape[:2], -1)
        gate = self.gate(inputs)
        if gate is not None:
            y *= gate.astype(state.dtype)
        return (state, window), linear(self, config.features, "output")(y)

    @nn.nowrap
    def activation(self) -> Callable[[Array], Array]:
        """Return what queries, keys and values pass through last."""
        return jax.nn.silu

    @nn.nowrap
    def num_value_heads(self) -> int:
        """Return the number of heads of values, of which each key head may serve several."""
        return self.config.num_heads

    @nn.nowrap
    def initialize_carry(self, key: Array, input_shape: tuple[int, ...]) -> Carry:
        """Return an empty memory and a window of zeros."""
        config, batch, heads = self.config, input_shape[0], self.num_value_heads()
        key_dim, value_dim = config.head_sizes
        channels = 2 * config.num_heads * key_dim + heads * value_dim
        return (
            jnp.zeros((batch, heads, key_dim, value_dim), self.param_dtype),
            initial_window(batch, config.kernel_size, channels, self.param_dtype),
        )
