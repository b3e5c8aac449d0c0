"""Linear attention.

For each head, with feature map phi(u) = elu(u) + 1::

    S' = S + phi(k) v^T         z' = z + phi(k)
    y  = phi(q)^T S' / (phi(q) . z' + 1e-6)

Source: Katharopoulos et al. 2020, "Transformers are RNNs", arXiv 2006.16236, section 3.4.
"""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from memorax import ops
from memorax.networks.layers import linear
from memorax.networks.sequence_models.base import Carry
from memorax.networks.sequence_models.memoroid import MemoroidCell
from memorax.ops.implementation import Implementation
from memorax.validation import check_positive

EPSILON = 1e-6
"""Added to the normaliser, as in the authors' code."""


@dataclass(frozen=True)
class LinearAttentionConfig:
    """Sizes of a ``LinearAttentionCell``.

    Attributes:
        features: Width of the outputs.
        num_heads: Number of heads.
        head_dim: Width of a head's queries and keys.
        value_dim: Width of a head's values; ``None``: that of its keys.

    Raises:
        ValueError: If a size is not positive.

    Examples:
        >>> config = LinearAttentionConfig(features=16, num_heads=2, head_dim=8)
        >>> LinearAttentionConfig(features=16, num_heads=0, head_dim=8)
        Traceback (most recent call last):
        ValueError: LinearAttentionConfig.num_heads must be an integer of at least 1, got 0
    """

    features: int
    num_heads: int
    head_dim: int
    value_dim: int | None = None

    def __post_init__(self):
        """Check the fields."""
        for name in ("features", "num_heads", "head_dim"):
            check_positive(f"LinearAttentionConfig.{name}", getattr(self, name))
        if self.value_dim is not None:
            check_positive("LinearAttentionConfig.value_dim", self.value_dim)


class LinearAttentionCell(MemoroidCell):
    """Attention whose memory does not grow, to be run by ``Memoroid``.

    The carry is S with z as its last column, ``(batch, heads, head_dim, value_dim + 1)``.

    Attributes:
        config: Sizes.
        dtype: Of the projections; ``None``: of inputs and parameters. The recurrence is computed
            in ``param_dtype``.
        param_dtype: Of parameters and carry.

    Examples:
        >>> config = LinearAttentionConfig(features=16, num_heads=2, head_dim=8)
        >>> torso = Memoroid(LinearAttentionCell(config))
        >>> (carry, outputs), params = jax.eval_shape(torso.init_with_output, key, inputs)
        >>> [leaf.shape for leaf in jax.tree.leaves(carry)]
        [(2, 2, 8, 9)]
        >>> outputs.shape
        (2, 5, 16)
    """

    config: LinearAttentionConfig
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
        config, value_dim = self.config, self._value_dim()

        def heads(name, head_dim):
            values = linear(self, config.num_heads * head_dim, name)(inputs).astype(carry.dtype)
            return values.reshape(*inputs.shape[:2], config.num_heads, head_dim)

        query = jax.nn.elu(heads("query", config.head_dim)) + 1
        key = jax.nn.elu(heads("key", config.head_dim)) + 1
        value = heads("value", value_dim)
        # The normaliser adds up the keys as the state does, each with a value of 1.
        value = jnp.concatenate([value, jnp.ones_like(value[..., :1])], axis=-1)
        carry, read = ops.gated_outer_product(
            query, key, value, None, None, done, carry, implementation, chunk_size
        )
        y = read[..., :-1] / (read[..., -1:] + EPSILON)
        y = y.reshape(*inputs.shape[:2], -1)
        return carry, linear(self, config.features, "output")(y)

    def _value_dim(self):
        return self.config.value_dim or self.config.head_dim

    @nn.nowrap
    def initialize_carry(self, key: Array, input_shape: tuple[int, ...]) -> Carry:
        """Return an empty memory."""
        heads, head_dim = self.config.num_heads, self.config.head_dim
        shape = (input_shape[0], heads, head_dim, self._value_dim() + 1)
        return jnp.zeros(shape, self.param_dtype)
