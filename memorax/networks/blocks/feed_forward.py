"""Modules that map each step by itself."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from memorax.networks.layers import linear
from memorax.validation import check_between, check_positive


class Projection(nn.Module):
    """A linear map: W x + b.

    Attributes:
        features: Width of the outputs.
        use_bias: Whether to add b.
        dtype: Dtype of the computation; ``None``: that of inputs and parameters.
        param_dtype: Dtype of the parameters.

    Raises:
        ValueError: If ``features`` is not positive.

    Examples:
        >>> module = Projection(features=16)
        >>> outputs, params = jax.eval_shape(module.init_with_output, key, inputs)
        >>> outputs.shape
        (2, 5, 16)
    """

    features: int
    use_bias: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        """Check the fields."""
        check_positive("Projection.features", self.features)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "*axes features"]
    ) -> Float[Array, "*axes features_out"]:
        """Map the last axis."""
        return linear(self, self.features, "projection", self.use_bias)(inputs)


class FFN(nn.Module):
    """A feed-forward network of one hidden layer: W_down activation(W_up x).

    Attributes:
        features: Width of the outputs; inputs may have any width.
        expansion_factor: Width of the hidden layer relative to the outputs, 4 since the first
            transformer. The width is rounded.
        activation: GELU, as GPT-2 has it.
        use_bias: Whether both maps have a bias.
        dtype: Dtype of the computation; ``None``: that of inputs and parameters.
        param_dtype: Dtype of the parameters.

    Raises:
        ValueError: If ``features`` or the width of the hidden layer is not positive.

    Source: Vaswani et al. 2017, "Attention Is All You Need", arXiv 1706.03762, section 3.3.

    Examples:
        >>> module = FFN(features=16, expansion_factor=2)
        >>> outputs, params = jax.eval_shape(module.init_with_output, key, inputs)
        >>> outputs.shape
        (2, 5, 16)
    """

    features: int
    expansion_factor: int | float = 4
    activation: Callable[[Array], Array] = nn.gelu
    use_bias: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        """Check the fields."""
        _check_sizes(self)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "*axes features"]
    ) -> Float[Array, "*axes features_out"]:
        """Map the last axis."""
        hidden = self.activation(linear(self, _hidden_dim(self), "up", self.use_bias)(inputs))
        return linear(self, self.features, "down", self.use_bias)(hidden)


class GLU(nn.Module):
    """A gated linear unit: W_down (activation(W_gate x) * W_up x).

    With SiLU it is called SwiGLU, with ``nn.gelu`` GEGLU, with ``nn.sigmoid`` GLU.

    Attributes:
        features: Width of the outputs; inputs may have any width.
        expansion_factor: Width of the hidden layer relative to the outputs, rounded. With 8/3 there
            are as many parameters as in an ``FFN`` of factor 4, as the paper compares them.
        activation: Applied to the gate.
        use_bias: Whether the maps have a bias; in the paper they have none.
        dtype: Dtype of the computation; ``None``: that of inputs and parameters.
        param_dtype: Dtype of the parameters.

    Raises:
        ValueError: If ``features`` or the width of the hidden layer is not positive.

    Source: Shazeer 2020, "GLU Variants Improve Transformer", arXiv 2002.05202.

    Examples:
        >>> module = GLU(features=16, activation=nn.gelu)
        >>> outputs, params = jax.eval_shape(module.init_with_output, key, inputs)
        >>> outputs.shape
        (2, 5, 16)
    """

    features: int
    expansion_factor: int | float = 8 / 3
    activation: Callable[[Array], Array] = nn.silu
    use_bias: bool = False
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        """Check the fields."""
        _check_sizes(self)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "*axes features"]
    ) -> Float[Array, "*axes features_out"]:
        """Map the last axis."""
        hidden_dim = _hidden_dim(self)
        gate = self.activation(linear(self, hidden_dim, "gate", self.use_bias)(inputs))
        up = linear(self, hidden_dim, "up", self.use_bias)(inputs)
        return linear(self, self.features, "down", self.use_bias)(gate * up)


def _hidden_dim(module):
    return round(module.features * module.expansion_factor)


def _check_sizes(module):
    name = type(module).__name__
    check_positive(f"{name}.features", module.features)
    check_between(f"{name}.expansion_factor", module.expansion_factor, 1 / module.features)
