"""The sLSTM cell: exponential gates, a normaliser, and memory mixing within heads.

With x~ = P x the projected input, u = x~ (or, with a convolution, u = silu(conv(x~))), and W, R
block-diagonal, one block a head::

    i~ = W_i u + R_i h + b_i            z~ = W_z x~ + R_z h + b_z
    f~ = W_f u + R_f h + b_f            o~ = W_o x~ + R_o h + b_o

    m' = max(i~, log sigmoid(f~) + m)   (i~ where nothing has been written, n = 0)
    i  = exp(i~ - m')                   f = exp(log sigmoid(f~) + m - m')
    c' = f c + i tanh(z~)               n' = f n + i
    h' = sigmoid(o~) c' / n'            y = Q (norm(h') (1 + w))

The stabiliser m scales c and n alike and cancels in h. As the larger of i and f is 1, n is never
below 1 after the first step. The norm is a layer norm over each head, without bias.

Source: Beck et al. 2024, xLSTM, arXiv 2405.04517, with the sigmoid forget gate, the normalisation
and the initial values of the authors' released layer.
"""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jaxtyping import Array, Float

from memorax.networks.initializers import check_memory_horizon, chrono_bias
from memorax.validation import check_integer, check_positive

NORM_EPSILON = 1e-5


@dataclass(frozen=True)
class sLSTMConfig:
    """Sizes and initialisation of an ``sLSTMCell``.

    Attributes:
        features: Width of the outputs.
        hidden_dim: Width of the state, of all heads together.
        num_heads: Number of heads, which do not mix; 4 in the paper's models. Each must be at least
            2 wide, since its output is normalised over its width.
        kernel_size: Steps that the convolution before the input and forget gates sees, including
            the current one; 4 in the paper's language models. ``None``: no convolution, which the
            recurrence can do without and which makes a step cheaper.
        memory_horizon: Steps that the longest memory lasts at first: the forget gates' biases are
            spread over each head by chrono initialisation (Tallec and Ollivier 2018, arXiv
            1804.11188). ``None``: the authors' biases, from 5 (about 150 steps) down to -7.

    Raises:
        ValueError: If a field is out of its range, or ``num_heads`` does not divide ``hidden_dim``.

    Examples:
        >>> config = sLSTMConfig(features=16, hidden_dim=32, kernel_size=4)
        >>> sLSTMConfig(features=0, hidden_dim=32, kernel_size=4)
        Traceback (most recent call last):
        ValueError: sLSTMConfig.features must be an integer of at least 1, got 0
    """

    features: int
    hidden_dim: int
    num_heads: int = 4
    kernel_size: int | None = None
    memory_horizon: int | float | None = None

    def __post_init__(self):
        """Check the fields."""
        check_positive("sLSTMConfig.features", self.features)
        check_positive("sLSTMConfig.hidden_dim", self.hidden_dim)
        check_positive("sLSTMConfig.num_heads", self.num_heads)
        check_memory_horizon("sLSTMConfig", self.memory_horizon)
        sizes = f"hidden_dim={self.hidden_dim}, num_heads={self.num_heads}"
        if self.hidden_dim % self.num_heads:
            raise ValueError(f"sLSTMConfig.hidden_dim must be divisible by num_heads, got {sizes}")
        if self.head_dim < 2:
            raise ValueError(
                "sLSTMConfig.hidden_dim must be at least twice num_heads, for the norm over a "
                f"head of a single channel is always 0, got {sizes}"
            )
        if self.kernel_size is not None:
            check_integer("sLSTMConfig.kernel_size", self.kernel_size, 2)

    @property
    def head_dim(self) -> int:
        """The width of one head."""
        return self.hidden_dim // self.num_heads


class sLSTMCell(nn.RNNCellBase):
    """One step of an sLSTM.

    The carry is ``(c, n, m, h)``, with a convolution ``(c, n, m, h, window)``, where the window
    holds the last ``kernel_size - 1`` projected inputs, oldest first. The state is updated in the
    carry's precision; ``dtype`` is that of the matrix products.

    Attributes:
        config: Sizes and options.
        dtype: Dtype of the computation; ``None``: that of inputs and parameters.
        param_dtype: The parameters' dtype, and, if that is not below float32, the carry's.

    Examples:
        >>> torso = RNN(sLSTMCell(sLSTMConfig(features=16, hidden_dim=32)))
        >>> (carry, outputs), params = jax.eval_shape(torso.init_with_output, key, inputs)
        >>> [leaf.shape for leaf in jax.tree.leaves(carry)]
        [(2, 32), (2, 32), (2, 32), (2, 32)]
        >>> outputs.shape
        (2, 5, 16)
    """

    config: sLSTMConfig
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        carry: tuple[Float[Array, "..."], ...],
        inputs: Float[Array, "*batch features"],
    ) -> tuple[tuple[Float[Array, "..."], ...], Float[Array, "*batch features_out"]]:
        """Read one input.

        Args:
            carry: The state before it.
            inputs: The input of each row.

        Returns:
            The state after it, and the outputs.
        """
        c, n, m, h, *window = carry
        x = self._project("input_projection", self.config.hidden_dim)(inputs)
        if self.config.kernel_size is not None:
            u, *window = self._convolve(x.astype(c.dtype), *window)
        else:
            u = x

        i, f, z, o = jnp.moveaxis(self._pre_activations(u, x, h), -2, 0)
        # Where nothing has been written f multiplies zeros, so that any finite value serves.
        f = jnp.where(n == 0, i, jax.nn.log_sigmoid(f) + m)
        m = jnp.maximum(i, f)
        i, f = jnp.exp(i - m), jnp.exp(f - m)
        c = f * c + i * jnp.tanh(z)
        n = f * n + i
        h = jax.nn.sigmoid(o) * c / n
        return (c, n, m, h, *window), self._project("output_projection", self.config.features)(
            self._normalise(h)
        )

    def _project(self, name, features):
        return nn.Dense(
            features, use_bias=False, dtype=self.dtype, param_dtype=self.param_dtype, name=name
        )

    def _convolve(self, x, window):
        """Return silu of the causal depthwise convolution, and the window for the next step."""
        width, hidden_dim = self.config.kernel_size, self.config.hidden_dim
        kernel = self.param("conv_kernel", _uniform(width), (width, hidden_dim), self.param_dtype)
        bias = self.param("conv_bias", _uniform(width), (hidden_dim,), self.param_dtype)
        window = jnp.concatenate([window, x[..., None, :]], axis=-2)
        convolved = (window * kernel.astype(x.dtype)).sum(-2) + bias.astype(x.dtype)
        return nn.silu(convolved), window[..., 1:, :]

    def _pre_activations(self, u, x, h):
        """Return i~, f~, z~ and o~ along the axis before the last, in the state's precision."""
        heads, head_dim = self.config.num_heads, self.config.head_dim
        shape = (heads, head_dim, 4, head_dim)
        small = nn.initializers.normal((2 / (5 * head_dim)) ** 0.5)
        input_kernel = self.param("input_kernel", small, shape, self.param_dtype)
        recurrent_kernel = self.param(
            "recurrent_kernel", nn.initializers.zeros_init(), shape, self.param_dtype
        )
        bias_init = _gate_bias(self.config.memory_horizon)
        bias = self.param("bias", bias_init, (4, heads, head_dim), self.param_dtype)

        def by_head(inputs, kernel):
            inputs, kernel = promote_dtype(inputs, kernel, dtype=self.dtype)
            inputs = inputs.reshape(*inputs.shape[:-1], heads, head_dim)
            return jnp.einsum("...ni,nigo->...gno", inputs, kernel).astype(h.dtype)

        if u is x:
            from_input = by_head(x, input_kernel)
        else:
            from_input = jnp.concatenate(
                [by_head(u, input_kernel[:, :, :2]), by_head(x, input_kernel[:, :, 2:])], axis=-3
            )
        gates = from_input + by_head(h, recurrent_kernel) + bias.astype(h.dtype)
        return gates.reshape(*gates.shape[:-2], heads * head_dim)

    def _normalise(self, h):
        weight = self.param(
            "norm_weight",
            nn.initializers.zeros_init(),
            (self.config.hidden_dim,),
            self.param_dtype,
        )
        by_head = h.reshape(*h.shape[:-1], self.config.num_heads, self.config.head_dim)
        centred = by_head - by_head.mean(-1, keepdims=True)
        variance = jnp.square(centred).mean(-1, keepdims=True)
        normalised = centred * jax.lax.rsqrt(variance + NORM_EPSILON)
        return normalised.reshape(h.shape) * (1 + weight.astype(h.dtype))

    @nn.nowrap
    def initialize_carry(
        self, rng: Array, input_shape: tuple[int, ...]
    ) -> tuple[Float[Array, "..."], ...]:
        """Return the initial state, zeros."""
        dtype = jnp.promote_types(self.param_dtype, jnp.float32)
        batch, hidden_dim = input_shape[:-1], self.config.hidden_dim
        carry = (jnp.zeros((*batch, hidden_dim), dtype),) * 4
        if self.config.kernel_size is not None:
            carry += (jnp.zeros((*batch, self.config.kernel_size - 1, hidden_dim), dtype),)
        return carry

    @property
    def num_feature_axes(self) -> int:
        """Number of axes of an input that are features."""
        return 1


def _uniform(width):
    """Draw between -1 / sqrt(width) and 1 / sqrt(width), as PyTorch does for a convolution."""

    def initialize(key, shape, dtype):
        return jax.random.uniform(key, shape, dtype, -(width**-0.5), width**-0.5)

    return initialize


def _gate_bias(memory_horizon):
    """Return zeros, but for the forget gate from 5 (remember) down to -7 over each head.

    The power of 0.3 is that of the authors' first block; in deeper blocks theirs rises to 1.6,
    which a cell that does not know its place leaves out.
    """

    def initialize(key, shape, dtype):
        channel = jnp.linspace(0, 1, shape[-1], dtype=dtype)
        forget = 5 - 12 * channel**0.3
        if memory_horizon is not None:
            forget = chrono_bias(memory_horizon)(key, shape[1:], dtype)
        return jnp.zeros(shape, dtype).at[1].set(forget)

    return initialize
