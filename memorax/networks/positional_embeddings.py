"""Positional embeddings of attention, relative to the query.

So none depends on how long an episode has run or on where a call began.
"""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype
from jaxtyping import Array, Float

from memorax.ops import Positions
from memorax.validation import check_between, check_integer, check_positive


class PositionalEmbedding(nn.Module):
    """The base class of positional embeddings; a subclass implements ``__call__``.

    Examples:
        >>> class Nearer(PositionalEmbedding):
        ...     def __call__(self, num_heads, head_dim, window):
        ...         return ops.Positions(bias=jnp.zeros((num_heads, window)) - jnp.arange(window))
        >>> config = SelfAttentionConfig(16, 2, context_length=4, positional_embedding=Nearer())
    """

    def __call__(self, num_heads: int, head_dim: int, window: int) -> Positions:
        """Return how scores depend on distance.

        Args:
            num_heads: Number of heads of the queries.
            head_dim: Width of a head.
            window: Steps that a query sees; their distances are 0 to ``window - 1``.

        Returns:
            What enters the scores of every head, by distance; see ``memorax.ops.Positions``.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement __call__")

    @nn.nowrap
    def check(self, num_heads: int, head_dim: int) -> None:
        """Raise ``ValueError`` if the embedding does not fit such heads."""


class RoPE(PositionalEmbedding):
    """Rotary positions: queries and keys are rotated, and only the angle between them matters.

    Features i and i + rotary_dim / 2 are rotated, n steps back, by::

        n base^(-2 i / rotary_dim)

    Attributes:
        rotary_dim: Number of features of each head that are rotated, from the first; ``None``: all.
        base: Of the frequencies; 10,000 as in the paper.
        interleaved: Whether 2i and 2i + 1 make a pair, as in the paper, instead of the halves, as
            in most code since. A matter of the features' order alone: it matters for parameters
            from elsewhere.

    Raises:
        ValueError: If ``rotary_dim`` is odd or not positive, or ``base`` is below 1.

    Source: Su et al. 2021, "RoFormer", arXiv 2104.09864, section 3.2; in part: Black et al. 2022,
        "GPT-NeoX-20B", arXiv 2204.06745, section 2.1.

    Examples:
        >>> config = SelfAttentionConfig(16, 2, context_length=4, positional_embedding=RoPE())
        >>> torso = SelfAttention(config)
        >>> (carry, outputs), params = jax.eval_shape(torso.init_with_output, key, inputs)
    """

    rotary_dim: int | None = None
    base: float = 10000.0
    interleaved: bool = False

    def __post_init__(self):
        """Check the fields."""
        if self.rotary_dim is not None:
            check_positive("RoPE.rotary_dim", self.rotary_dim)
            if self.rotary_dim % 2:
                raise ValueError(
                    f"RoPE.rotary_dim must be even, for features are rotated in pairs, got "
                    f"{self.rotary_dim}"
                )
        check_between("RoPE.base", self.base, 1.0)
        super().__post_init__()

    @nn.nowrap
    def check(self, num_heads: int, head_dim: int) -> None:
        """Raise ``ValueError`` if the heads are too narrow or, to be rotated whole, odd."""
        if self.rotary_dim is None and head_dim % 2:
            raise ValueError(
                f"RoPE rotates features in pairs, so head_dim must be even, got {head_dim}; "
                f"RoPE(rotary_dim={head_dim - 1}) leaves the last feature as it is"
            )
        if self.rotary_dim is not None and self.rotary_dim > head_dim:
            raise ValueError(
                f"RoPE.rotary_dim must be at most head_dim, got rotary_dim={self.rotary_dim}, "
                f"head_dim={head_dim}"
            )

    def __call__(self, num_heads: int, head_dim: int, window: int) -> Positions:
        """Return the frequency of each pair."""
        rotary_dim = self.rotary_dim or head_dim
        frequencies = self.base ** (-np.arange(0, rotary_dim, 2) / rotary_dim)
        return Positions(frequencies=tuple(frequencies.tolist()), interleaved=self.interleaved)


class ALiBi(PositionalEmbedding):
    """Linear biases: a score falls by the head's slope with every step back.

    The slopes of n heads, n a power of 2, are 2^(-8 / n), 2^(-16 / n), ..., 2^-8. Other numbers of
    heads have the slopes of the next lower power of 2, then every second one of the next higher.

    Attributes:
        num_heads: Number of heads.

    Raises:
        ValueError: If ``num_heads`` is not positive.

    Source: Press et al. 2022, "Train Short, Test Long", arXiv 2108.12409, section 3; the slopes of
        other numbers of heads are those of the authors' code.

    Examples:
        >>> config = SelfAttentionConfig(16, 2, context_length=4, positional_embedding=ALiBi(2))
        >>> torso = SelfAttention(config)
        >>> (carry, outputs), params = jax.eval_shape(torso.init_with_output, key, inputs)
    """

    num_heads: int

    def __post_init__(self):
        """Check the fields."""
        check_positive("ALiBi.num_heads", self.num_heads)
        super().__post_init__()

    @nn.nowrap
    def check(self, num_heads: int, head_dim: int) -> None:
        """Raise ``ValueError`` if the attention has another number of heads."""
        if num_heads != self.num_heads:
            raise ValueError(
                "ALiBi.num_heads must be that of the attention, got "
                f"ALiBi.num_heads={self.num_heads}, num_heads={num_heads}"
            )

    @nn.nowrap
    def slopes(self) -> Float[Array, " heads"]:
        """Return the slope of each head."""
        lower = 2 ** int(math.log2(self.num_heads))

        def of_power_of_two(heads):
            return 2.0 ** (-8 * np.arange(1, heads + 1) / heads)

        between = of_power_of_two(2 * lower)[::2][: self.num_heads - lower]
        return jnp.asarray(np.concatenate([of_power_of_two(lower), between]))

    def __call__(self, num_heads: int, head_dim: int, window: int) -> Positions:
        """Return the biases."""
        return Positions(bias=-self.slopes()[:, None] * jnp.arange(window))


class LearnablePositionalEmbedding(PositionalEmbedding):
    """A learnt vector for each distance, which is added to the keys of that distance.

    With a the vectors, which all heads share::

        score = q . (k + a[n]) / sqrt(head_dim)

    The paper's second kind of vectors, added to the values, it finds to be of no use.

    Attributes:
        param_dtype: Of the parameters.

    Source: Shaw et al. 2018, "Self-Attention with Relative Position Representations",
        arXiv 1803.02155, equation 4, without its limit on distances, which the window is.

    Examples:
        >>> embedding = LearnablePositionalEmbedding()
        >>> config = SelfAttentionConfig(16, 2, context_length=4, positional_embedding=embedding)
        >>> params = jax.eval_shape(SelfAttention(config).init, key, inputs)
    """

    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, num_heads: int, head_dim: int, window: int) -> Positions:
        """Return the vectors."""
        embedding = self.param(
            "embedding", nn.initializers.normal(0.02), (window, head_dim), self.param_dtype
        )
        shape = (window, num_heads, head_dim)
        return Positions(relative_key=jnp.broadcast_to(embedding[:, None], shape))


class RelativePositionalEmbedding(PositionalEmbedding):
    """The relative positions of Transformer-XL: a map of sinusoids instead of a table.

    With R[n] the sines, then the cosines, of n 10000^(-2 i / features)::

        score = [(q + u) . k + (q + v) . (W_r R[n])] / sqrt(head_dim)

    Attributes:
        features: Width of R; in the paper that of the model.
        param_dtype: Of the parameters.

    Raises:
        ValueError: If ``features`` is not even.

    Source: Dai et al. 2019, "Transformer-XL", arXiv 1901.02860, section 3.3.

    Examples:
        >>> embedding = RelativePositionalEmbedding(features=16)
        >>> config = SelfAttentionConfig(16, 2, context_length=4, positional_embedding=embedding)
        >>> params = jax.eval_shape(SelfAttention(config).init, key, inputs)
    """

    features: int
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        """Check the fields."""
        check_integer("RelativePositionalEmbedding.features", self.features, 2)
        if self.features % 2:
            raise ValueError(
                "RelativePositionalEmbedding.features must be even, for each frequency has a sine "
                f"and a cosine, got {self.features}"
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, num_heads: int, head_dim: int, window: int) -> Positions:
        """Return the mapped sinusoids and the two biases."""
        frequencies = 10000.0 ** (-np.arange(0, self.features, 2) / self.features)
        angles = np.arange(window)[:, None] * frequencies
        sinusoids = jnp.asarray(np.concatenate([np.sin(angles), np.cos(angles)], axis=-1))

        shape, draw = (num_heads, head_dim), nn.initializers.normal(0.02)
        u = self.param("content_bias", draw, shape, self.param_dtype)
        v = self.param("position_bias", draw, shape, self.param_dtype)
        W_r = self.param(
            "kernel", nn.initializers.lecun_normal(), (self.features, num_heads * head_dim),
            self.param_dtype,
        )  # fmt: skip
        R, W_r, v = promote_dtype(sinusoids.astype(self.param_dtype), W_r, v)
        keys = (R @ W_r).reshape(window, num_heads, head_dim)
        bias = jnp.einsum("hd,whd->hw", v, keys) * head_dim**-0.5
        return Positions(bias=bias, relative_key=keys, content_bias=u)
