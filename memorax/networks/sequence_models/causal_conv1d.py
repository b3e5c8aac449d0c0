"""The shortest memory: a convolution over the last few steps."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from memorax.networks.layers import CausalConvolution
from memorax.networks.sequence_models.base import (
    Carry,
    SequenceModel,
    checked_carry,
    checked_inputs,
)
from memorax.validation import check_positive


class CausalConv1d(SequenceModel):
    """Convolve each feature over the last ``kernel_size`` steps of the episode, with bias.

    In a residual it gives the order of the last steps to a memory that does not see order.

    The carry is the last ``kernel_size - 1`` inputs, in ``param_dtype``.

    Attributes:
        features: Width of the inputs and of the outputs.
        kernel_size: Steps that it sees, including the current one.
        dtype: Of the computation; ``None``: of inputs and parameters.
        param_dtype: Of parameters and carry.

    Raises:
        ValueError: At construction, if a size is not positive; at the call, if the inputs are not
            ``features`` wide, or as ``SequenceModel``.

    Source: Gu and Dao 2023, arXiv 2312.00752, section 3.4 (in front of a memory); Chu et al. 2021,
        arXiv 2102.10882 (in a residual, for positions).

    Examples:
        >>> torso = CausalConv1d(features=8, kernel_size=4)
        >>> (carry, outputs), params = jax.eval_shape(torso.init_with_output, key, inputs)
        >>> [leaf.shape for leaf in jax.tree.leaves(carry)]
        [(2, 3, 8)]
        >>> outputs.shape
        (2, 5, 8)
    """

    features: int
    kernel_size: int = 4
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        """Check the fields."""
        check_positive("CausalConv1d.features", self.features)
        check_positive("CausalConv1d.kernel_size", self.kernel_size)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        inputs: Float[Array, "batch time features"],
        done: Bool[Array, "batch time"] | None = None,
        initial_carry: Carry | None = None,
    ) -> tuple[Carry, Float[Array, "batch time features"]]:
        """Convolve the inputs; see ``SequenceModel``."""
        inputs, done = checked_inputs(self, inputs, done)
        if inputs.shape[-1] != self.features:
            raise ValueError(
                f"CausalConv1d.features must be the width of the inputs, {inputs.shape[-1]}, got "
                f"{self.features}"
            )
        window = checked_carry(self, initial_carry, inputs)
        convolution = CausalConvolution(
            self.kernel_size, self.dtype, self.param_dtype, name="convolution"
        )
        return convolution(inputs, done, window)

    @nn.nowrap
    def initialize_carry(self, key: Array, input_shape: tuple[int, ...]) -> Carry:
        """Return a window of zeros."""
        return jnp.zeros((input_shape[0], self.kernel_size - 1, self.features), self.param_dtype)

    @nn.nowrap
    def without_exact_gradient(self) -> tuple[str, ...]:
        """Return nothing: the window holds inputs, which do not depend on the parameters."""
        return ()
