"""The recurrent block of Griffin: a convolution and a gated linear recurrent unit.

With u = W_x x, all of it elementwise but for the gates' block-diagonal maps::

    c = convolution of u over the last steps
    r = sigmoid(W_r c + b_r)                    (recurrence gate)
    i = sigmoid(W_i c + b_i)                    (input gate)
    log a = -8 r softplus(a_param)
    h' = a h + m i c       m = 1 at an episode's first step, else sqrt(1 - a^2)
    y  = W_out (h' gelu(W_y x))

Source: De et al. 2024, "Griffin: Mixing Gated Linear Recurrences with Local Attention for
Efficient Language Models", arXiv 2402.19427, section 2.4.
"""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from memorax import ops
from memorax.networks.initializers import check_ring, ring_nu_log
from memorax.networks.layers import BlockDiagonal, CausalConvolution, linear
from memorax.networks.sequence_models.base import Carry
from memorax.networks.sequence_models.memoroid import MemoroidCell
from memorax.ops.implementation import Implementation
from memorax.validation import check_positive

LARGEST_SLOPE = 1000.0
"""Of the square root, as in the authors' code: a gate that is shut makes it infinite."""


@dataclass(frozen=True)
class RGLRUConfig:
    """Sizes and initialisation of an ``RGLRUCell``.

    Attributes:
        features: Width of the outputs.
        hidden_dim: Number of states; ``None``: ``features``.
        num_heads: Blocks of the gates' maps; divides ``hidden_dim``.
        kernel_size: Steps that the convolution sees.
        r_min: Least exp(-softplus(a_param)) at first, the authors' 0.9, whose squares are drawn
            uniformly up to that of ``r_max``. With the gate half open, a is its fourth power.
        r_max: Largest exp(-softplus(a_param)) at first, the authors' 0.999.

    Raises:
        ValueError: If a field is out of its range, or ``num_heads`` does not divide ``hidden_dim``.

    Examples:
        >>> config = RGLRUConfig(features=16, hidden_dim=24)
        >>> RGLRUConfig(features=0, hidden_dim=24)
        Traceback (most recent call last):
        ValueError: RGLRUConfig.features must be an integer of at least 1, got 0
    """

    features: int
    hidden_dim: int | None = None
    num_heads: int = 4
    kernel_size: int = 4
    r_min: float = 0.9
    r_max: float = 0.999

    def __post_init__(self):
        """Check the fields."""
        for name in ("features", "num_heads", "kernel_size"):
            check_positive(f"RGLRUConfig.{name}", getattr(self, name))
        if self.hidden_dim is not None:
            check_positive("RGLRUConfig.hidden_dim", self.hidden_dim)
        width = self.hidden_dim or self.features
        if width % self.num_heads:
            raise ValueError(
                "RGLRUConfig.hidden_dim must be divisible by num_heads, got "
                f"hidden_dim={width}, num_heads={self.num_heads}"
            )
        check_ring("RGLRUConfig", self.r_min, self.r_max, max_phase=1.0)


class RGLRUCell(MemoroidCell):
    """Griffin's recurrent block, to be run by ``Memoroid``.

    The carry is the states h, ``(batch, hidden_dim)``, the convolution's last ``kernel_size - 1``
    inputs, and whether the episode has begun, ``(batch,)``: the multiplier m follows the episode's
    start, not a state of zero.

    Attributes:
        config: Sizes and initialisation.
        dtype: Of the products; ``None``: of inputs and parameters. The recurrence is computed in
            ``param_dtype``.
        param_dtype: Of parameters and carry.

    Examples:
        >>> torso = Memoroid(RGLRUCell(RGLRUConfig(features=16)))
        >>> (carry, outputs), params = jax.eval_shape(torso.init_with_output, key, inputs)
        >>> [leaf.shape for leaf in jax.tree.leaves(carry)]
        [(2, 16), (2, 3, 16), (2,)]
        >>> outputs.shape
        (2, 5, 16)
    """

    config: RGLRUConfig
    dtype: Any = None
    param_dtype: Any = jnp.float32

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
        config, width = self.config, self._width()
        state, window, begun = carry
        gate = nn.gelu(linear(self, width, "linear_y", use_bias=True)(inputs))
        u = linear(self, width, "linear_x", use_bias=True)(inputs)
        convolution = CausalConvolution(
            config.kernel_size, self.dtype, self.param_dtype, name="convolution"
        )
        window, c = convolution(u, done, window)

        def gate_of(name):
            draw = nn.initializers.lecun_normal(batch_axis=0)
            layer = BlockDiagonal(
                config.num_heads, draw, self.dtype, self.param_dtype, use_bias=True, name=name
            )
            return jax.nn.sigmoid(layer(c).astype(state.dtype))

        r, i = gate_of("recurrence_gate"), gate_of("input_gate")
        a_param = self.param("a_param", self._draw_a_param, (width,), self.param_dtype)
        log_a = -8.0 * r * jax.nn.softplus(a_param)
        first = done | (~begun[:, None] & (jnp.arange(done.shape[1]) == 0))
        m = jnp.where(first[..., None], 1, _square_root(-jnp.expm1(2 * log_a)))
        state, h = ops.linear_recurrence(
            jnp.exp(log_a), m * i * c, done, state, implementation, chunk_size=chunk_size
        )
        y = linear(self, config.features, "linear_out", use_bias=True)(h * gate)
        return (state, window, jnp.ones_like(begun)), y

    def _draw_a_param(self, key, shape, dtype):
        nu_log = ring_nu_log(self.config.r_min, self.config.r_max)(key, shape, dtype)
        # The inverse of softplus.
        return jnp.log(jnp.expm1(jnp.exp(nu_log)))

    def _width(self):
        return self.config.hidden_dim or self.config.features

    @nn.nowrap
    def initialize_carry(self, key: Array, input_shape: tuple[int, ...]) -> Carry:
        """Return states and a window of zeros, of an episode that has not begun."""
        batch, width = input_shape[0], self.config.hidden_dim or self.config.features
        return (
            jnp.zeros((batch, width), self.param_dtype),
            jnp.zeros((batch, self.config.kernel_size - 1, width), self.param_dtype),
            jnp.zeros(batch, bool),
        )


@jax.custom_jvp
def _square_root(values):
    return jnp.sqrt(values)


@_square_root.defjvp
def _square_root_slope(primals, tangents):
    (values,), (slopes,) = primals, tangents
    least = 1 / (2 * LARGEST_SLOPE) ** 2
    return jnp.sqrt(values), slopes / (2 * jnp.sqrt(jnp.maximum(values, least)))
