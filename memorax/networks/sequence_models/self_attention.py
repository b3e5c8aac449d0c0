"""Attention to the last steps of the episode.

For each head, over the last ``context_length`` steps s of the episode, t among them::

    q, k, v = W_q x, W_k x, W_v x
    y[t] = W_o (sum of softmax(q[t] . k[s] / sqrt(head_dim))[s] v[s])

Source: Vaswani et al. 2017, "Attention Is All You Need", arXiv 1706.03762, section 3.2.
"""

from dataclasses import dataclass
from typing import Any, get_args

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from memorax import ops
from memorax.networks.layers import linear
from memorax.networks.positional_embeddings import PositionalEmbedding
from memorax.networks.sequence_models.base import (
    Carry,
    SequenceModel,
    checked_carry,
    checked_inputs,
)
from memorax.ops import AttentionImplementation
from memorax.validation import check_positive, unknown_name


@dataclass(frozen=True)
class SelfAttentionConfig:
    """Sizes of a ``SelfAttention``.

    Attributes:
        features: Width of the outputs.
        num_heads: Number of heads; divides ``features`` unless ``head_dim`` is given.
        context_length: Steps that a query sees, including its own.
        positional_embedding: How scores depend on distance, such as ``ALiBi(num_heads)``; ``None``:
            they do not.
        num_key_value_heads: Number of heads of keys and values, each shared by equally many heads
            of queries (Ainslie et al. 2023, arXiv 2305.13245); divides ``num_heads``, which is the
            default. Fewer make a smaller carry.
        head_dim: Width of a head; ``None``: ``features / num_heads``.
        normalize_query_key: Whether each head's queries and keys are scaled to a learnt root mean
            square, which keeps scores bounded (Henry et al. 2020, arXiv 2010.04245; with
            learnt scales: Dehghani et al. 2023, arXiv 2302.05442).
        use_bias: Whether the four maps have biases. Most models since Transformer-XL have none.

    Raises:
        ValueError: If a size is not positive, one does not divide another that it has to, or the
            positional embedding does not fit the heads.

    Examples:
        >>> config = SelfAttentionConfig(features=16, num_heads=2, context_length=4)
        >>> SelfAttentionConfig(features=0, num_heads=2, context_length=4)
        Traceback (most recent call last):
        ValueError: SelfAttentionConfig.features must be an integer of at least 1, got 0
    """

    features: int
    num_heads: int
    context_length: int
    positional_embedding: PositionalEmbedding | None = None
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    normalize_query_key: bool = False
    use_bias: bool = False

    def __post_init__(self):
        """Check the fields."""
        for name in ("features", "num_heads", "context_length"):
            check_positive(f"SelfAttentionConfig.{name}", getattr(self, name))
        for name in ("num_key_value_heads", "head_dim"):
            if getattr(self, name) is not None:
                check_positive(f"SelfAttentionConfig.{name}", getattr(self, name))
        if self.head_dim is None and self.features % self.num_heads:
            raise ValueError(
                "SelfAttentionConfig.features must be divisible by num_heads, got "
                f"features={self.features}, num_heads={self.num_heads}"
            )
        if self.num_heads % self.key_heads:
            raise ValueError(
                "SelfAttentionConfig.num_heads must be divisible by num_key_value_heads, got "
                f"num_heads={self.num_heads}, num_key_value_heads={self.num_key_value_heads}"
            )
        if self.positional_embedding is not None:
            if not isinstance(self.positional_embedding, PositionalEmbedding):
                raise ValueError(
                    "SelfAttentionConfig.positional_embedding must be an instance of "
                    f"PositionalEmbedding, such as RoPE(), got {self.positional_embedding!r}"
                )
            self.positional_embedding.check(self.num_heads, self.head_width)

    @property
    def key_heads(self) -> int:
        """Number of heads of keys and values."""
        return self.num_key_value_heads or self.num_heads

    @property
    def head_width(self) -> int:
        """Width of a head."""
        return self.head_dim or self.features // self.num_heads


class SelfAttention(SequenceModel):
    """Attend to the last steps of the episode, however the sequence is cut.

    The carry holds the keys and values of the last ``context_length`` steps before any rotation,
    ``(batch, heads, context_length, head_dim)``, zeros where the episode was not yet, and how many
    steps they are. So a step computes its own key and value only.

    The weights are kept on request: ``model.apply(..., mutable=["intermediates"])`` returns them
    as ``attention_weights``, ``(batch, heads, time, window)``, by steps back from the query.

    Attributes:
        config: Sizes.
        implementation: How ``memorax.ops.sliding_window_attention`` runs; all compute the same.
        block_size: Queries that it takes at a time; ``None`` is its default.
        dtype: Of the computation and of the carry; ``None``: of inputs and parameters, the carry
            being in that of the parameters. Softmax and sums are of float32 at least.
        param_dtype: Of parameters.

    Raises:
        ValueError: At construction, if a field is out of its range; at the call, as
            ``SequenceModel``.

    Examples:
        >>> torso = SelfAttention(SelfAttentionConfig(16, num_heads=2, context_length=4))
        >>> (carry, outputs), params = jax.eval_shape(torso.init_with_output, key, inputs)
        >>> [leaf.shape for leaf in jax.tree.leaves(carry)]
        [(2, 2, 4, 8), (2, 2, 4, 8), (2,)]
        >>> outputs.shape
        (2, 5, 16)
    """

    config: SelfAttentionConfig
    implementation: AttentionImplementation = "auto"
    block_size: int | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        """Check the fields."""
        choices = get_args(AttentionImplementation)
        if self.implementation not in choices:
            words = unknown_name("implementation", self.implementation, choices)
            raise ValueError(f"SelfAttention.implementation: {words}")
        if self.block_size is not None:
            check_positive("SelfAttention.block_size", self.block_size)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        inputs: Float[Array, "batch time features"],
        done: Bool[Array, "batch time"] | None = None,
        initial_carry: Carry | None = None,
        memory: tuple[Float[Array, "batch old features"], Int[Array, "batch time"]] | None = None,
    ) -> tuple[Carry, Float[Array, "batch time features_out"]]:
        """Read a chunk of a sequence; see ``SequenceModel``.

        Args:
            inputs: As there, like ``done`` and ``initial_carry``.
            done: True where an input is the first of a new episode.
            initial_carry: The carry returned for the previous chunk.
            memory: The inputs of the ``memory_length - 1 + time`` steps that lie behind the context
                of one of the queries, and how many steps of its episode lie before each query,
                those in memory among them. ``SegmentRecurrence`` keeps both.

        Returns:
            The carry and the outputs.
        """
        config = self.config
        inputs, done = checked_inputs(self, inputs, done)
        keys, values, length = checked_carry(self, initial_carry, inputs)
        query_of = self._heads("query", config.num_heads)
        key_of = self._heads("key", config.key_heads)
        value_of = self._heads("value", config.key_heads, normalize=False)

        query = query_of(inputs)
        age = ops.episode_age(done, length, config.context_length - 1)
        last = age[:, -1]
        keys, next_keys = ops.slide_window(keys, key_of(inputs), last)
        values, next_values = ops.slide_window(values, value_of(inputs), last)
        window, remembered = config.context_length, None
        if memory is not None:
            old, age = memory
            window += old.shape[1] + 1 - inputs.shape[1]
            remembered = key_of(old).astype(keys.dtype), value_of(old).astype(values.dtype)
        positions = None
        if config.positional_embedding is not None:
            embedding = config.positional_embedding.clone(parent=self, name="positional_embedding")
            positions = embedding(config.num_heads, config.head_width, window)

        if self.is_mutable_collection("intermediates"):
            weights = ops.sliding_window_attention_weights(
                query,
                keys,
                age,
                config.context_length,
                positions,
                None if remembered is None else remembered[0],
            )
            self.sow("intermediates", "attention_weights", weights)
        outputs = ops.sliding_window_attention(
            query,
            keys,
            values,
            age,
            config.context_length,
            positions,
            remembered,
            self.implementation,
            self.block_size,
        )
        outputs = jnp.swapaxes(outputs, 1, 2).reshape(*inputs.shape[:2], -1)
        outputs = linear(self, config.features, "output", config.use_bias)(outputs)
        return (next_keys, next_values, last + 1), outputs

    def _heads(self, name, heads, normalize=True):
        """Return the map to heads of the name, ``(batch, heads, time, head_dim)``."""
        config = self.config
        project = linear(self, heads * config.head_width, name, config.use_bias)
        norm = None
        if normalize and config.normalize_query_key:
            norm = nn.RMSNorm(dtype=self.dtype, param_dtype=self.param_dtype, name=f"{name}_norm")

        def to_heads(inputs):
            projected = project(inputs).reshape(*inputs.shape[:2], heads, config.head_width)
            projected = projected if norm is None else norm(projected)
            return jnp.swapaxes(projected, 1, 2)

        return to_heads

    @nn.nowrap
    def initialize_carry(self, key: Array, input_shape: tuple[int, ...]) -> Carry:
        """Return an empty window."""
        config, batch = self.config, input_shape[0]
        dtype = self.param_dtype if self.dtype is None else self.dtype
        shape = (batch, config.key_heads, config.context_length, config.head_width)
        return jnp.zeros(shape, dtype), jnp.zeros(shape, dtype), jnp.zeros(batch, jnp.int32)
