"""Attention that reaches further back, through hidden states held without gradient."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from memorax import ops
from memorax.networks.sequence_models.base import (
    Carry,
    SequenceModel,
    checked_carry,
    checked_inputs,
    initialize_carry,
)
from memorax.networks.sequence_models.self_attention import SelfAttention
from memorax.validation import check_positive


class SegmentRecurrence(SequenceModel):
    """Extend an attention by ``memory_length`` steps older than its context.

    It keeps the inputs of those steps, and computes their keys and values from them with the
    current parameters::

        [k, v] = [W_k, W_v] stop_gradient(x)

    So gradients reach the parameters through the memory, but not its inputs. In the paper a segment
    is the context and the previous segment the memory, so that what a query sees depends on its
    position in the segment. Here the memory begins ``context_length`` steps before each query,
    however the sequence is cut.

    A step computes the keys and values of the whole memory; those of the context are kept.

    The carry is that of the attention, the last ``context_length + memory_length`` inputs,
    ``(batch, steps, features)``, zeros where the episode was not yet, and how many steps they are.

    Attributes:
        sequence_model: The attention.
        memory_length: Steps that are seen beyond the attention's ``context_length``.
        features: Width of the inputs.

    Raises:
        ValueError: At construction, if ``sequence_model`` is not a ``SelfAttention`` or a size is
            not positive; at the call, if the inputs have another width, or as ``SequenceModel``.

    Source: Dai et al. 2019, "Transformer-XL", arXiv 1901.02860, section 3.2.

    Examples:
        >>> attention = SelfAttention(SelfAttentionConfig(16, num_heads=2, context_length=4))
        >>> torso = SegmentRecurrence(attention, memory_length=8, features=8)
        >>> (carry, outputs), params = jax.eval_shape(torso.init_with_output, key, inputs)
        >>> outputs.shape
        (2, 5, 16)
    """

    sequence_model: Any
    memory_length: int
    features: int

    def __post_init__(self):
        """Check the fields."""
        if not isinstance(self.sequence_model, SelfAttention):
            raise ValueError(
                "SegmentRecurrence.sequence_model must be a SelfAttention, whose context it "
                f"extends, got {self.sequence_model!r}; other blocks, such as PreNorm, go around "
                "SegmentRecurrence"
            )
        check_positive("SegmentRecurrence.memory_length", self.memory_length)
        check_positive("SegmentRecurrence.features", self.features)
        super().__post_init__()

    def __call__(
        self,
        inputs: Float[Array, "batch time features"],
        done: Bool[Array, "batch time"] | None = None,
        initial_carry: Carry | None = None,
    ) -> tuple[Carry, Float[Array, "batch time features_out"]]:
        """Read a chunk of a sequence; see ``SequenceModel``."""
        inputs, done = checked_inputs(self, inputs, done)
        if inputs.shape[-1] != self.features:
            raise ValueError(
                "SegmentRecurrence.features must be the width of the inputs, got "
                f"features={self.features}, inputs of shape {inputs.shape}"
            )
        attention_carry, hidden, length = checked_carry(self, initial_carry, inputs)
        steps = hidden.shape[1]
        # What no query will see must not meet the parameters either: it may not be finite.
        hidden = jnp.where(done[:, :1, None], 0, jax.lax.stop_gradient(hidden))
        age = ops.episode_age(done, length, steps - 1)
        hidden, next_hidden = ops.slide_window(hidden, jax.lax.stop_gradient(inputs), age[:, -1])
        # Those that lie in the last query's context, no query sees as memory.
        old = hidden[:, : self.memory_length - 1 + inputs.shape[1]]
        attention_carry, outputs = self.sequence_model(
            inputs, done, attention_carry, memory=(old, age)
        )
        return (attention_carry, next_hidden, age[:, -1] + 1), outputs

    @nn.nowrap
    def initialize_carry(self, key: Array, input_shape: tuple[int, ...]) -> Carry:
        """Return an empty memory before the attention's empty window."""
        attention, batch = self.sequence_model, input_shape[0]
        steps = attention.config.context_length + self.memory_length
        return (
            initialize_carry(attention, key, input_shape),
            jnp.zeros((batch, steps, self.features), attention.param_dtype),
            jnp.zeros(batch, jnp.int32),
        )
