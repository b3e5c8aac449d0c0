"""Layers that several cells have inside."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jaxtyping import Array, Bool, Float, PyTree

from memorax import ops
from memorax.networks.initializers import Initializer
from memorax.ops.implementation import Implementation


def uniform_by_fan_in(fan_in: int) -> Initializer:
    """Draw uniformly between -1/sqrt(fan_in) and 1/sqrt(fan_in), as PyTorch's layers do."""

    def draw(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -1.0, 1.0) / fan_in**0.5

    return draw


def linear(
    cell: Any,
    features: int,
    name: str,
    use_bias: bool = False,
    kernel_init: Initializer = nn.linear.default_kernel_init,
    bias_init: Initializer = nn.initializers.zeros,
) -> nn.Dense:
    """Return a linear map inside a cell, in the cell's dtype and with parameters in its own."""
    return nn.Dense(
        features,
        use_bias=use_bias,
        dtype=cell.dtype,
        param_dtype=cell.param_dtype,
        kernel_init=kernel_init,
        bias_init=bias_init,
        name=name,
    )


class CausalConvolution(nn.Module):
    """A depthwise convolution over the last ``width`` steps.

    Its window is in the precision of its parameters.
    """

    width: int
    dtype: Any = None
    param_dtype: Any = jnp.float32
    use_bias: bool = True

    @nn.compact
    def __call__(
        self,
        inputs: Float[Array, "batch time channels"],
        done: Bool[Array, "batch time"],
        window: Float[Array, "batch steps channels"],
    ) -> tuple[Float[Array, "batch steps channels"], Float[Array, "batch time channels"]]:
        """Return the next window and the outputs."""
        initializer, channels = uniform_by_fan_in(self.width), inputs.shape[-1]
        kernel = self.param("kernel", initializer, (self.width, channels), self.param_dtype)
        bias = None
        if self.use_bias:
            bias = self.param("bias", initializer, (channels,), self.param_dtype)
        values, kernel, bias = promote_dtype(inputs, kernel, bias, dtype=self.dtype)
        window, outputs = ops.causal_conv1d(values, kernel, done, window)
        return window, outputs if bias is None else outputs + bias


class QueryKeyValue(nn.Module):
    """Queries, keys and values of heads, of one projection and, if asked, one convolution.

    Attributes:
        num_key_heads: Heads of queries and keys.
        key_dim: Width of each.
        num_heads: Heads of values.
        value_dim: Width of each.
        kernel_size: Steps that the convolution sees; ``None``: no convolution.
        use_conv_bias: Whether it has a bias.
        activation: Applied last.
        dtype: Of projection and convolution.
        param_dtype: Of parameters and window.
    """

    num_key_heads: int
    key_dim: int
    num_heads: int
    value_dim: int
    kernel_size: int | None
    use_conv_bias: bool
    activation: Callable[[Array], Array]
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        inputs: Float[Array, "batch time features"],
        done: Bool[Array, "batch time"],
        window: PyTree[Array],
    ) -> tuple[PyTree[Array], tuple[Array, Array, Array]]:
        """Return the next window, and query, key and value, ``(batch, time, heads, ...)``."""
        keys, steps = self.num_key_heads * self.key_dim, inputs.shape[:2]
        values = linear(self, 2 * keys + self.num_heads * self.value_dim, "projection")(inputs)
        if self.kernel_size is not None:
            convolution = CausalConvolution(
                *(self.kernel_size, self.dtype, self.param_dtype, self.use_conv_bias),
                name="convolution",
            )
            window, values = convolution(values, done, window)
        values = self.activation(values).astype(self.param_dtype)
        query, key, value = jnp.split(values, [keys, 2 * keys], axis=-1)
        return window, (
            query.reshape(*steps, self.num_key_heads, self.key_dim),
            key.reshape(*steps, self.num_key_heads, self.key_dim),
            value.reshape(*steps, self.num_heads, self.value_dim),
        )


def initial_window(batch: int, kernel_size: int | None, channels: int, dtype: Any) -> PyTree[Array]:
    """Return the empty window of a convolution, zeros; ``()`` without convolution."""
    return () if kernel_size is None else jnp.zeros((batch, kernel_size - 1, channels), dtype)


class BlockDiagonal(nn.Module):
    """A linear map whose kernel is block-diagonal: each block of features is mapped by itself."""

    num_blocks: int
    kernel_init: Initializer
    dtype: Any = None
    param_dtype: Any = jnp.float32
    use_bias: bool = False

    @nn.compact
    def __call__(self, inputs: Float[Array, "*axes features"]) -> Float[Array, "*axes features"]:
        """Map the features; ``num_blocks`` divides them."""
        size = inputs.shape[-1] // self.num_blocks
        shape = (self.num_blocks, size, size)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        bias = None
        if self.use_bias:
            zeros = nn.initializers.zeros
            bias = self.param("bias", zeros, inputs.shape[-1:], self.param_dtype)
        values, kernel, bias = promote_dtype(inputs, kernel, bias, dtype=self.dtype)
        # As one product with the whole matrix, most of which is zeros.
        outputs = values @ jax.scipy.linalg.block_diag(*kernel)
        return outputs if bias is None else outputs + bias


def token_shift(
    inputs: Float[Array, "batch time features"],
    done: Bool[Array, "batch time"],
    last: Float[Array, "batch features"],
) -> tuple[Float[Array, "batch features"], Float[Array, "batch time features"]]:
    """Return the last inputs, for the next call, and each previous input, 0 at an episode's start.

    Args:
        inputs: Of this call.
        done: True where an input is the first of a new episode.
        last: The inputs before the first.
    """
    before = jnp.concatenate([last[:, None].astype(inputs.dtype), inputs[:, :-1]], axis=1)
    return inputs[:, -1].astype(last.dtype), jnp.where(done[..., None], 0, before)


def head_wise_norm(
    values: Float[Array, "*axes heads head_dim"], epsilon: float
) -> Float[Array, "*axes heads head_dim"]:
    """Bring each head to mean 0 and variance 1 over its features."""
    centred = values - values.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + epsilon)


def head_wise_rms_norm(
    values: Float[Array, "*axes heads head_dim"],
    scale: Float[Array, "..."],
    epsilon: float,
) -> Float[Array, "*axes heads head_dim"]:
    """Bring each head to a mean square of 1 over its features, then scale them."""
    return values * jax.lax.rsqrt((values * values).mean(-1, keepdims=True) + epsilon) * scale


def unit_length(values: Float[Array, "*axes dim"]) -> Float[Array, "*axes dim"]:
    """Bring vectors to length 1, those much shorter than 1e-3 to less."""
    return values * jax.lax.rsqrt((values * values).sum(-1, keepdims=True) + 1e-6)


def complex_units(
    kernel: Float[Array, "inputs features"],
    decay: tuple[Array, Array],
    B: tuple[Float[Array, "features states"], Float[Array, "features states"]],
) -> tuple[Array, ...]:
    """Return the parameters of each state of ``h' = decay h + B (x kernel)``, states last.

    They are the real and the imaginary part of the decay and of the product of both matrices,
    which alone says how the input enters a state: with respect to the kernel by itself, every
    state would have a derivative of the kernel's size.
    """
    return *decay, kernel @ B[0], kernel @ B[1]


def complex_unit_step(
    parameters: tuple[Array, ...], state: PyTree[Array], inputs: Float[Array, " inputs"]
) -> PyTree[Array]:
    """Return the state after an input, given what ``complex_units`` returns."""
    decay_real, decay_imag, B_real, B_imag = parameters
    real, imaginary = state
    return (
        decay_real * real - decay_imag * imaginary + inputs @ B_real,
        decay_real * imaginary + decay_imag * real + inputs @ B_imag,
    )


def run_complex_states(
    x: Float[Array, "batch time features"],
    decay: Any,
    B: Float[Array, "features parts"],
    C: Float[Array, "parts features"],
    D: Float[Array, " features"],
    done: Bool[Array, "batch time"],
    carry: PyTree[Array],
    implementation: Implementation,
    chunk_size: int | None,
    dtype: Any,
) -> tuple[PyTree[Array], Float[Array, "batch time features"]]:
    """Run h' = decay h + B x and read C h' + D x, with real and imaginary parts side by side."""
    real, imaginary = carry
    x, B, C, D = promote_dtype(x, B, C, D, dtype=dtype)
    entered = (x @ B).astype(real.dtype)
    initial_state = jax.lax.complex(real, imaginary)
    state, states = ops.linear_recurrence(
        decay.astype(initial_state.dtype),
        jax.lax.complex(*jnp.split(entered, 2, axis=-1)),
        done,
        initial_state,
        implementation,
        chunk_size=chunk_size,
    )
    read = jnp.concatenate([states.real, states.imag], axis=-1).astype(C.dtype)
    return (state.real, state.imag), read @ C + D * x
