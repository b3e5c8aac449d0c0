"""What the cells of the delta rule have in common.

For each head, with queries, keys and values convolved over the last steps, then SiLU, and q and k
brought to length 1::

    beta = max_beta sigmoid(W_beta x)
    S~ = decay S
    S' = S~ + k (beta (v - S~^T k))^T
    y  = S'^T q / sqrt(key_dim)
    out = W_out (RMSNorm(y) gate)

A cell says what the decay is; the gate, where there is one, is silu(W_gate x) unless it says else.
"""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from memorax import ops
from memorax.networks.layers import (
    QueryKeyValue,
    head_wise_rms_norm,
    initial_window,
    linear,
    unit_length,
)
from memorax.networks.sequence_models.base import Carry
from memorax.networks.sequence_models.memoroid import MemoroidCell
from memorax.ops.delta_rule import IMPLEMENTATIONS
from memorax.ops.implementation import Implementation
from memorax.validation import check_between, check_positive


def check_head_sizes(config: Any) -> None:
    """Raise ``ValueError`` if the sizes of heads and convolution make no sense."""
    name = type(config).__name__
    check_positive(f"{name}.features", config.features)
    check_positive(f"{name}.num_heads", config.num_heads)
    for field in ("key_dim", "value_dim", "conv_dim"):
        if getattr(config, field) is not None:
            check_positive(f"{name}.{field}", getattr(config, field))
    if config.key_dim is None and config.features % config.num_heads:
        raise ValueError(
            f"{name}.features must be divisible by num_heads where key_dim is None, got "
            f"features={config.features}, num_heads={config.num_heads}"
        )
    check_between(f"{name}.norm_epsilon", config.norm_epsilon, 0.0)


def head_sizes(config: Any) -> tuple[int, int]:
    """Return the width of a head's keys and that of its values."""
    key_dim = config.key_dim or config.features // config.num_heads
    return key_dim, config.value_dim or key_dim


@dataclass(frozen=True)
class DeltaRuleConfig:
    """Sizes that the cells of the delta rule have in common.

    Attributes:
        features: Width of the outputs.
        num_heads: Number of heads.
        key_dim: Width of a head's queries and keys; ``None``: ``features / num_heads``.
        value_dim: Width of a head's values; ``None``: that of its keys.
        conv_dim: Steps that the convolution over queries, keys and values sees; ``None``: none.
        use_conv_bias: Whether the convolution has a bias.
        max_beta: Largest beta, above 0 and at most 2. With 1 a write replaces at most what the key
            holds; with 2 it can turn it around, which counting modulo 2 needs.
        norm_epsilon: Of the norm over each head's outputs.

    Raises:
        ValueError: If a field is out of its range, or ``num_heads`` does not divide ``features``
            where ``key_dim`` is ``None``.
    """

    features: int
    num_heads: int = 4
    key_dim: int | None = None
    value_dim: int | None = None
    conv_dim: int | None = 4
    use_conv_bias: bool = False
    max_beta: float = 1.0
    norm_epsilon: float = 1e-5

    def __post_init__(self):
        """Check the fields."""
        check_head_sizes(self)
        check_between(f"{type(self).__name__}.max_beta", self.max_beta, 1e-3, 2.0)


class DeltaRuleCell(MemoroidCell):
    """A memory with the delta rule; a subclass says what decays it and what gates it.

    The carry is the state S of each head, ``(batch, heads, key_dim, value_dim)``, and the
    convolution's last ``conv_dim - 1`` inputs, ``()`` without convolution.

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

    def log_decay(self, inputs: Float[Array, "batch time features"]) -> Array | None:
        """Return the decays' logarithms, a head or a key channel; ``None``: nothing decays."""
        raise NotImplementedError(f"{type(self).__name__} must implement log_decay")

    def gate(self, inputs: Float[Array, "batch time features"]) -> Array | None:
        """Return what the outputs are multiplied with, silu(W_gate x), or ``None`` without gate."""
        if not self.config.use_gate:
            return None
        width = self.num_value_heads() * head_sizes(self.config)[1]
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
        config, heads = self.config, self.num_value_heads()
        state, window = carry
        key_dim, value_dim = head_sizes(config)
        query_key_value = QueryKeyValue(
            *(config.num_heads, key_dim, heads, value_dim),
            *(config.conv_dim, config.use_conv_bias, jax.nn.silu),
            *(self.dtype, self.param_dtype),
            name="query_key_value",
        )
        window, (q, k, v) = query_key_value(inputs, done, window)
        q, k = unit_length(q) / key_dim**0.5, unit_length(k)
        b = linear(self, heads, "beta")(inputs).astype(state.dtype)
        beta = config.max_beta * jax.nn.sigmoid(b)
        log_decay = self.log_decay(inputs)
        state, y = ops.delta_rule(q, k, v, beta, log_decay, done, state, implementation, chunk_size)
        norm = self.param("norm", nn.initializers.ones, (value_dim,), self.param_dtype)
        y = head_wise_rms_norm(y, norm, config.norm_epsilon).reshape(*inputs.shape[:2], -1)
        gate = self.gate(inputs)
        if gate is not None:
            y *= gate.astype(state.dtype)
        return (state, window), linear(self, config.features, "output")(y)

    @nn.nowrap
    def num_value_heads(self) -> int:
        """Return the number of heads of values, of which each key head may serve several."""
        return self.config.num_heads

    @nn.nowrap
    def initialize_carry(self, key: Array, input_shape: tuple[int, ...]) -> Carry:
        """Return an empty memory and a window of zeros."""
        config, batch, heads = self.config, input_shape[0], self.num_value_heads()
        key_dim, value_dim = head_sizes(config)
        channels = 2 * config.num_heads * key_dim + heads * value_dim
        return (
            jnp.zeros((batch, heads, key_dim, value_dim), self.param_dtype),
            initial_window(batch, config.conv_dim, channels, self.param_dtype),
        )
