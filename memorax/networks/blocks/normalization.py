"""A norm before or after a model."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from memorax.networks.blocks.base import Block, unshared
from memorax.networks.sequence_models.base import Carry, apply_sequence_model, check_callable

MIXING_NORMS = (nn.BatchNorm, nn.InstanceNorm, nn.GroupNorm)
"""Norms of Flax that take statistics over rows or steps, which a memory must keep apart."""


class _Normalized(Block):
    """A model with a norm at one of its ends, which is of this block alone."""

    module: Any
    normalization: Any = nn.LayerNorm
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        """Check the fields."""
        field = f"{type(self).__name__}.normalization"
        kind = self.normalization
        if not isinstance(kind, type):
            check_callable(field, kind)
            kind = type(kind)
        if issubclass(kind, MIXING_NORMS):
            raise ValueError(
                f"{field} must normalise each step of each row by itself, as nn.LayerNorm and "
                f"nn.RMSNorm do, got {kind.__name__}"
            )
        super().__post_init__()

    def setup(self):
        """Make the block's own norm."""
        if isinstance(self.normalization, type):
            self.norm = self.normalization(dtype=self.dtype, param_dtype=self.param_dtype)
        else:
            self.norm = unshared(self.normalization)

    def normalized(self, values: Float[Array, "*axes features"]) -> Float[Array, "*axes features"]:
        """Return the values after the norm."""
        if values.shape[-1] == 1 and isinstance(self.norm, nn.LayerNorm):
            raise ValueError(
                f"{type(self).__name__}.normalization must not be nn.LayerNorm for a single "
                "feature, which it makes 0 always"
            )
        return self.norm(values)


class PreNorm(_Normalized):
    """Normalise a model's inputs: f(norm(x)).

    ``Residual(PreNorm(f))`` is the layer of modern transformers: the stream of residuals itself
    is never normalised.

    Attributes:
        module: Any sequence model or plain module.
        normalization: The norm: a class such as ``nn.LayerNorm`` or ``nn.RMSNorm``, made with the
            dtypes below, or an instance, of which each block takes a copy.
        dtype: Of the norm, if a class is given; ``None``: of inputs and parameters.
        param_dtype: Of the norm's parameters, if a class is given.

    Raises:
        ValueError: At construction, if ``module`` is neither a module nor callable, or the norm
            mixes steps or rows; when it is applied, if ``nn.LayerNorm`` gets a single feature.

    Source: Xiong et al. 2020, "On Layer Normalization in the Transformer Architecture", arXiv
    2002.04745.

    Examples:
        >>> torso = PreNorm(RNN(nn.GRUCell(16)))
        >>> (carry, outputs), params = jax.eval_shape(torso.init_with_output, key, inputs)
        >>> [leaf.shape for leaf in jax.tree.leaves(carry)]
        [(2, 16)]
        >>> outputs.shape
        (2, 5, 16)
    """

    def read(
        self,
        inputs: Float[Array, "batch time features"],
        done: Bool[Array, "batch time"],
        carry: Carry,
    ) -> tuple[Carry, Float[Array, "batch time features_out"]]:
        """Read a chunk of a sequence; see ``Block``."""
        return apply_sequence_model(self.module, self.normalized(inputs), done, carry)


class PostNorm(_Normalized):
    """Normalise a model's outputs: norm(f(x)).

    ``PostNorm(Residual(f))`` is the layer of the first transformer.

    Attributes:
        module: Any sequence model or plain module.
        normalization: The norm: a class such as ``nn.LayerNorm`` or ``nn.RMSNorm``, made with the
            dtypes below, or an instance, of which each block takes a copy.
        dtype: Of the norm, if a class is given; ``None``: of inputs and parameters.
        param_dtype: Of the norm's parameters, if a class is given.

    Raises:
        ValueError: At construction, if ``module`` is neither a module nor callable, or the norm
            mixes steps or rows; when it is applied, if ``nn.LayerNorm`` gets a single feature.

    Source: Vaswani et al. 2017, "Attention Is All You Need", arXiv 1706.03762, section 3.1.

    Examples:
        >>> torso = PostNorm(RNN(nn.GRUCell(16)), normalization=nn.RMSNorm)
        >>> (carry, outputs), params = jax.eval_shape(torso.init_with_output, key, inputs)
        >>> [leaf.shape for leaf in jax.tree.leaves(carry)]
        [(2, 16)]
        >>> outputs.shape
        (2, 5, 16)
    """

    def read(
        self,
        inputs: Float[Array, "batch time features"],
        done: Bool[Array, "batch time"],
        carry: Carry,
    ) -> tuple[Carry, Float[Array, "batch time features_out"]]:
        """Read a chunk of a sequence; see ``Block``."""
        carry, outputs = apply_sequence_model(self.module, inputs, done, carry)
        return carry, self.normalized(outputs)
