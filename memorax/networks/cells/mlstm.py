"""Matrix long short-term memory (mLSTM), with the block of the xLSTM paper around it.

For each head of width d, with u the convolved input, all gates one number a head::

    [x, z] = W_up input             u = silu(causal convolution of x)
    q = W_q u     k = W_k u     v = W_v x          (block-diagonal)
    i = w_i [q, k, v] + b_i     f = w_f [q, k, v] + b_f
    m' = max(logsigmoid(f) + m, i)
    C' = exp(logsigmoid(f) + m - m') C + exp(i - m') (k / sqrt(d)) v^T      n' likewise with k
    h  = q^T C' / (max(|q . n'|, exp(-m')) + 1e-6)
    y  = W_down (head-wise LayerNorm(h) (1 + w) + skip u) silu(z)

Source: Beck et al. 2024, "xLSTM: Extended Long Short-Term Memory", arXiv 2405.04517, section 2.3
and figure 10; the gate silu(z) in place of the equations' output gate, as in figure and code.
"""

import math
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from memorax import ops
from memorax.networks.initializers import check_memory_horizon
from memorax.networks.layers import BlockDiagonal, CausalConvolution, head_wise_norm, linear
from memorax.networks.sequence_models.base import Carry
from memorax.networks.sequence_models.memoroid import MemoroidCell
from memorax.ops.implementation import Implementation
from memorax.validation import check_positive

EPSILON = 1e-6
"""Added to the normaliser after scaling, as in the authors' code."""

FORGET_BIASES = (3.0, 6.0)
"""Of the first head and the last, as in the authors' code."""


@dataclass(frozen=True)
class mLSTMConfig:
    """Sizes of an ``mLSTMCell``.

    Attributes:
        features: Width of the outputs.
        hidden_dim: Width inside the block, of all heads together.
        num_heads: Number of heads; divides ``hidden_dim``. Each has to be at least 2 wide, as its
            output is normalised across it.
        kernel_size: Steps that the convolution sees, the authors' 4.
        block_size: Width of the blocks of W_q, W_k and W_v, the authors' 4; divides
            ``hidden_dim``.
        memory_horizon: Steps that the longest memory lasts at first: the forget gates' biases are
            spread over the heads from the logarithm of a hundredth of it to its own. ``None``:
            the authors' biases from 3 to 6, about 20 to 400 steps.

    Raises:
        ValueError: If a size is not positive, does not divide or leaves a head a single channel.

    Examples:
        >>> config = mLSTMConfig(features=16, hidden_dim=32, num_heads=4)
        >>> mLSTMConfig(features=0, hidden_dim=32, num_heads=4)
        Traceback (most recent call last):
        ValueError: mLSTMConfig.features must be an integer of at least 1, got 0
    """

    features: int
    hidden_dim: int
    num_heads: int
    kernel_size: int = 4
    block_size: int = 4
    memory_horizon: int | float | None = None

    def __post_init__(self):
        """Check the fields."""
        for name in ("features", "hidden_dim", "num_heads", "kernel_size", "block_size"):
            check_positive(f"mLSTMConfig.{name}", getattr(self, name))
        check_memory_horizon("mLSTMConfig", self.memory_horizon)
        for name in ("num_heads", "block_size"):
            if self.hidden_dim % getattr(self, name):
                raise ValueError(
                    f"mLSTMConfig.hidden_dim must be divisible by {name}, got "
                    f"hidden_dim={self.hidden_dim}, {name}={getattr(self, name)}"
                )
        if self.hidden_dim == self.num_heads:
            raise ValueError(
                "mLSTMConfig.hidden_dim must be at least twice num_heads, for the norm over a head "
                f"of a single channel is always 0, got hidden_dim={self.hidden_dim}, "
                f"num_heads={self.num_heads}"
            )


class mLSTMCell(MemoroidCell):
    """The mLSTM block, to be run by ``Memoroid``; norm and residual around it are left to blocks.

    The carry is C with n as its last column, ``(batch, heads, head_dim, head_dim + 1)``, m, and
    the convolution's last ``kernel_size - 1`` inputs.

    Attributes:
        config: Sizes.
        dtype: Of the projections and the convolution; ``None``: of inputs and parameters. The
            recurrence is computed in ``param_dtype``.
        param_dtype: Of parameters and carry.

    Examples:
        >>> torso = Memoroid(mLSTMCell(mLSTMConfig(features=16, hidden_dim=32, num_heads=4)))
        >>> (carry, outputs), params = jax.eval_shape(torso.init_with_output, key, inputs)
        >>> [leaf.shape for leaf in jax.tree.leaves(carry)]
        [(2, 4, 8, 9), (2, 4), (2, 3, 32)]
        >>> outputs.shape
        (2, 5, 16)
    """

    config: mLSTMConfig
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
        state, m, window = carry
        small = nn.initializers.normal((2 / (5 * inputs.shape[-1])) ** 0.5)

        up = linear(self, 2 * config.hidden_dim, "up", kernel_init=small)
        x, z = jnp.split(up(inputs), 2, axis=-1)
        convolution = CausalConvolution(
            config.kernel_size, self.dtype, self.param_dtype, name="convolution"
        )
        window, u = convolution(x, done, window)
        u = jax.nn.silu(u)

        def blocks(values, name):
            num_blocks = config.hidden_dim // config.block_size
            layer = BlockDiagonal(num_blocks, small, self.dtype, self.param_dtype, name=name)
            return layer(values)

        query, key, value = blocks(u, "query"), blocks(u, "key"), blocks(x, "value")
        gates = nn.Dense(
            2 * config.num_heads,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=nn.initializers.zeros,
            bias_init=self._draw_gate_bias,
            name="gates",
        )(jnp.concatenate([query, key, value], axis=-1))
        i, f = jnp.split(gates.astype(state.dtype), 2, axis=-1)

        def heads(values):
            return values.astype(state.dtype).reshape(*inputs.shape[:2], config.num_heads, -1)

        query, key, value = heads(query), heads(key), heads(value)
        # The normaliser adds up the keys as the state does, each with a value of 1.
        value = jnp.concatenate([value, jnp.ones_like(value[..., :1])], axis=-1)
        key /= key.shape[-1] ** 0.5
        (state, m), (read, ms) = ops.gated_outer_product(
            query,
            key,
            value,
            jax.nn.log_sigmoid(f),
            i,
            done,
            (state, m),
            implementation,
            chunk_size,
        )
        # Beyond exp(80) the normaliser leaves nothing of h that a float32 could hold.
        least = jnp.exp(jnp.minimum(-ms, 80.0))
        h = read[..., :-1] / (jnp.maximum(jnp.abs(read[..., -1:]), least[..., None]) + EPSILON)
        norm = self.param("norm", nn.initializers.zeros, (config.hidden_dim,), self.param_dtype)
        skip = self.param("skip", nn.initializers.ones, (config.hidden_dim,), self.param_dtype)
        h = head_wise_norm(h, 1e-5).reshape(*inputs.shape[:2], -1) * (1 + norm)
        y = (h + skip * u) * jax.nn.silu(z)
        draw_down = nn.initializers.normal(2 / inputs.shape[-1] ** 0.5)
        down = linear(self, config.features, "down", kernel_init=draw_down)
        return (state, m, window), down(y)

    def _draw_gate_bias(self, key, shape, dtype):
        """Draw input gates about 0, and let forget gates begin nearly open."""
        heads, horizon = self.config.num_heads, self.config.memory_horizon
        least, most = (
            FORGET_BIASES
            if horizon is None
            else (math.log(max(horizon / 100, 1.0)), math.log(horizon))
        )
        input_gates = 0.1 * jax.random.normal(key, (heads,), dtype)
        return jnp.concatenate([input_gates, jnp.linspace(least, most, heads, dtype=dtype)])

    @nn.nowrap
    def initialize_carry(self, key: Array, input_shape: tuple[int, ...]) -> Carry:
        """Return an empty memory and a window of zeros."""
        config, batch = self.config, input_shape[0]
        head_dim = config.hidden_dim // config.num_heads
        return (
            jnp.zeros((batch, config.num_heads, head_dim, head_dim + 1), self.param_dtype),
            jnp.zeros((batch, config.num_heads), self.param_dtype),
            jnp.zeros((batch, config.kernel_size - 1, config.hidden_dim), self.param_dtype),
        )
