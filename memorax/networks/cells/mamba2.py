"""Mamba-2.

For each head, with the causal convolution and SiLU applied to x, B and C together, and B, C shared
by the heads of a group::

    [z, x B C, dt] = W_in u
    dt = softplus(dt + dt_bias)
    S' = exp(-exp(A_log) dt) S + dt x B^T
    y  = S' C + D x
    out = W_out RMSNorm(y silu(z))            (the norm over the channels of a group)

Source: Dao and Gu 2024, "Transformers are SSMs", arXiv 2405.21060, sections 6 and 7.
"""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from memorax import ops
from memorax.networks.initializers import (
    check_steps_and_decays,
    inverse_softplus_of_log_uniform,
    log_of_uniform,
)
from memorax.networks.layers import CausalConvolution, linear
from memorax.networks.sequence_models.base import Carry
from memorax.networks.sequence_models.memoroid import MemoroidCell
from memorax.ops.implementation import Implementation
from memorax.validation import check_between, check_positive


@dataclass(frozen=True)
class Mamba2Config:
    """Sizes and initialisation of a ``Mamba2Cell``.

    Attributes:
        features: Width of the outputs.
        num_heads: Number of heads, each with its own decay.
        head_dim: Width of a head; with ``num_heads`` of 8 twice 64 features, the paper's ratio.
        state_dim: N, the width of B and C.
        num_groups: Number of groups of heads that share B and C; divides ``num_heads``.
        kernel_size: Steps that the convolution sees.
        min_step: Least dt at first, drawn log-uniformly up to ``max_step``, as the authors do.
        max_step: Largest dt at first.
        min_decay: Least exp(A_log) at first, drawn uniformly up to ``max_decay``.
        max_decay: Largest exp(A_log) at first.
        norm_epsilon: Of the gated norm, as in the authors' code.

    Raises:
        ValueError: If a field is out of its range, or ``num_groups`` does not divide the heads.

    Examples:
        >>> config = Mamba2Config(features=16, state_dim=32)
        >>> Mamba2Config(features=0, state_dim=32)
        Traceback (most recent call last):
        ValueError: Mamba2Config.features must be an integer of at least 1, got 0
    """

    features: int
    num_heads: int = 8
    head_dim: int = 16
    state_dim: int = 16
    num_groups: int = 1
    kernel_size: int = 4
    min_step: float = 0.001
    max_step: float = 0.1
    min_decay: float = 1.0
    max_decay: float = 16.0
    norm_epsilon: float = 1e-5

    def __post_init__(self):
        """Check the fields."""
        for name in ("features", "num_heads", "head_dim", "state_dim", "num_groups", "kernel_size"):
            check_positive(f"Mamba2Config.{name}", getattr(self, name))
        if self.num_heads % self.num_groups:
            raise ValueError(
                "Mamba2Config.num_heads must be divisible by num_groups, got "
                f"num_heads={self.num_heads}, num_groups={self.num_groups}"
            )
        check_steps_and_decays(self)
        check_between("Mamba2Config.norm_epsilon", self.norm_epsilon, 0.0)


class Mamba2Cell(MemoroidCell):
    """The Mamba-2 mixer, to be run by ``Memoroid``.

    The carry is the state S of each head, ``(batch, heads, state_dim, head_dim)``, and the
    convolution's last ``kernel_size - 1`` inputs.

    Attributes:
        config: Sizes and initialisation.
        dtype: Of the projections and the convolution; ``None``: of inputs and parameters. The
            recurrence is computed in ``param_dtype``.
        param_dtype: Of parameters and carry.

    Examples:
        >>> torso = Memoroid(Mamba2Cell(Mamba2Config(features=16)))
        >>> (carry, outputs), params = jax.eval_shape(torso.init_with_output, key, inputs)
        >>> [leaf.shape for leaf in jax.tree.leaves(carry)]
        [(2, 8, 16, 16), (2, 3, 160)]
        >>> outputs.shape
        (2, 5, 16)
    """

    config: Mamba2Config
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
        config = self.config
        state, window = carry
        channels = config.num_heads * config.head_dim
        shared = config.num_groups * config.state_dim

        width = 2 * channels + 2 * shared + config.num_heads
        projected = linear(self, width, "in_proj")(inputs)
        z, xBC, dt = jnp.split(projected, [channels, 2 * channels + 2 * shared], axis=-1)
        convolution = CausalConvolution(
            config.kernel_size, self.dtype, self.param_dtype, name="convolution"
        )
        window, xBC = convolution(xBC, done, window)
        xBC = jax.nn.silu(xBC).astype(state.dtype)
        x, B, C = jnp.split(xBC, [channels, channels + shared], axis=-1)
        steps = inputs.shape[:2]
        x = x.reshape(*steps, config.num_heads, config.head_dim)
        B, C = (part.reshape(*steps, config.num_groups, config.state_dim) for part in (B, C))

        heads = (config.num_heads,)
        draw_decays = log_of_uniform(config.min_decay, config.max_decay)
        draw_steps = inverse_softplus_of_log_uniform(config.min_step, config.max_step)
        A_log = self.param("A_log", draw_decays, heads, self.param_dtype)
        dt_bias = self.param("dt_bias", draw_steps, heads, self.param_dtype)
        D = self.param("D", nn.initializers.ones, heads, self.param_dtype)
        dt = jax.nn.softplus(dt.astype(state.dtype) + dt_bias)
        state, y = ops.gated_outer_product(
            C,
            B,
            dt[..., None] * x,
            -jnp.exp(A_log) * dt,
            None,
            done,
            state,
            implementation,
            chunk_size,
        )
        y = (y + D[:, None] * x).reshape(*steps, channels)

        norm = self.param("norm", nn.initializers.ones, (channels,), self.param_dtype)
        y = (y * jax.nn.silu(z.astype(state.dtype))).reshape(*steps, config.num_groups, -1)
        y *= jax.lax.rsqrt((y * y).mean(-1, keepdims=True) + config.norm_epsilon)
        y = y.reshape(*steps, channels) * norm
        return (state, window), linear(self, config.features, "out_proj")(y)

    @nn.nowrap
    def initialize_carry(self, key: Array, input_shape: tuple[int, ...]) -> Carry:
        """Return an empty memory and a window of zeros."""
        config, batch = self.config, input_shape[0]
        channels = config.num_heads * config.head_dim + 2 * config.num_groups * config.state_dim
        state = (batch, config.num_heads, config.state_dim, config.head_dim)
        return (
            jnp.zeros(state, self.param_dtype),
            jnp.zeros((batch, config.kernel_size - 1, channels), self.param_dtype),
        )
