"""Gated linear attention, with RetNet and HGRN2 as configurations of it.

For each head, of which each key channel decays by itself::

    log f = log sigmoid(W_up W_down x + b) / gate_temperature
    S' = f S + k v^T
    y  = S'^T q / sqrt(key_dim)
    out = W_out (RMSNorm(y) silu(W_gate x))

RetNet's decays are fixed, f = 1 - 2^(-5 - h) for head h; HGRN2's keys are 1 - f.

Source: Yang et al. 2023, "Gated Linear Attention Transformers with Hardware-Efficient Training",
arXiv 2312.06635; Sun et al. 2023, "Retentive Network", arXiv 2307.08621, section 2; Qin et al.
2024, "HGRN2", arXiv 2404.07904, section 3.
"""

from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from memorax import ops
from memorax.networks.cells.delta_rule import check_head_sizes, head_sizes
from memorax.networks.layers import QueryKeyValue, head_wise_rms_norm, initial_window, linear
from memorax.networks.sequence_models.base import Carry
from memorax.networks.sequence_models.memoroid import MemoroidCell
from memorax.ops.delta_rule import IMPLEMENTATIONS
from memorax.ops.implementation import Implementation
from memorax.validation import check_between, check_positive


@dataclass(frozen=True)
class GatedLinearAttentionConfig:
    """Sizes of a ``GatedLinearAttentionCell``.

    Attributes:
        features: Width of the outputs.
        num_heads: Number of heads.
        key_dim: Width of a head's queries and keys; ``None``: ``features / num_heads``.
        value_dim: Width of a head's values; ``None``: that of its keys.
        conv_dim: Steps that a convolution over queries, keys and values sees, with SiLU behind it;
            ``None``: none, as in the paper.
        use_conv_bias: Whether the convolution has a bias.
        decay: ``"gated"``, or ``"fixed"`` as RetNet's.
        keys: ``"projected"``, or ``"forgotten"`` for 1 - f as HGRN2's.
        gate_rank: Rank of the forget gate's projection, the authors' 16.
        gate_temperature: What the forget gate's logarithm is divided by: with the authors' 16 a
            state begins to last about 23 steps.
        use_gate: Whether the outputs are multiplied with silu(W_gate x).
        norm_epsilon: Of the norm over each head's outputs.

    Raises:
        ValueError: If a field is out of its range, or ``num_heads`` does not divide ``features``
            where ``key_dim`` is ``None``.
    """

    features: int
    num_heads: int = 4
    key_dim: int | None = None
    value_dim: int | None = None
    conv_dim: int | None = None
    use_conv_bias: bool = False
    decay: Literal["gated", "fixed"] = "gated"
    keys: Literal["projected", "forgotten"] = "projected"
    gate_rank: int = 16
    gate_temperature: float = 16.0
    use_gate: bool = True
    norm_epsilon: float = 1e-5

    def __post_init__(self):
        """Check the fields."""
        name = "GatedLinearAttentionConfig"
        check_head_sizes(self)
        for field, choices in (("decay", ("gated", "fixed")), ("keys", ("projected", "forgotten"))):
            if getattr(self, field) not in choices:
                raise ValueError(
                    f"{name}.{field} must be one of {', '.join(choices)}, got "
                    f"{getattr(self, field)!r}"
                )
        check_positive(f"{name}.gate_rank", self.gate_rank)
        check_between(f"{name}.gate_temperature", self.gate_temperature, 1e-3)

    @classmethod
    def retnet(cls, features: int, num_heads: int = 4) -> "GatedLinearAttentionConfig":
        """Return RetNet's retention: fixed decays; its rotation of queries and keys is left out."""
        return cls(features, num_heads, decay="fixed")

    @classmethod
    def hgrn2(cls, features: int, num_heads: int = 4) -> "GatedLinearAttentionConfig":
        """Return HGRN2's recurrence: a forget gate to which the keys are tied, and no output gate.

        The lower bounds of the gates, one a layer, are left out.
        """
        return cls(
            *(features, num_heads),
            keys="forgotten",
            gate_rank=features,
            gate_temperature=1.0,
            use_gate=False,
        )


class GatedLinearAttentionCell(MemoroidCell):
    """The mixer of gated linear attention, to be run by ``Memoroid``.

    The carry is the state S of each head, ``(batch, heads, key_dim, value_dim)``, and the
    convolution's last ``conv_dim - 1`` inputs, ``()`` without convolution.

    Attributes:
        config: Sizes.
        dtype: Of the projections and the convolution; ``None``: of inputs and parameters. The
            recurrence is computed in ``param_dtype``.
        param_dtype: Of parameters and carry.
    """

    implementations = IMPLEMENTATIONS

    config: GatedLinearAttentionConfig
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
        config, heads = self.config, self.config.num_heads
        state, window = carry
        key_dim, value_dim = head_sizes(config)
        activation = (lambda values: values) if config.conv_dim is None else jax.nn.silu
        query_key_value = QueryKeyValue(
            *(heads, key_dim, heads, value_dim),
            *(config.conv_dim, config.use_conv_bias, activation),
            *(self.dtype, self.param_dtype),
            name="query_key_value",
        )
        window, (q, k, v) = query_key_value(inputs, done, window)
        log_f = self._log_forget_gate(inputs, key_dim)
        if config.keys == "forgotten":
            k = jnp.broadcast_to(-jnp.expm1(log_f.reshape(*log_f.shape[:3], -1)), k.shape)
        q /= key_dim**0.5
        if config.decay == "fixed":
            state, y = ops.gated_outer_product(
                q, k, v, log_f, None, done, state, implementation, chunk_size
            )
        else:
            state, y = ops.gated_linear_attention(
                q, k, v, log_f, done, state, implementation, chunk_size
            )
        norm = self.param("norm", nn.initializers.ones, (value_dim,), self.param_dtype)
        y = head_wise_rms_norm(y, norm, config.norm_epsilon).reshape(*inputs.shape[:2], -1)
        if config.use_gate:
            gate = linear(self, heads * value_dim, "gate")(inputs)
            y *= jax.nn.silu(gate).astype(state.dtype)
        return (state, window), linear(self, config.features, "output")(y)

    def _log_forget_gate(self, inputs, key_dim):
        config, steps = self.config, inputs.shape[:2]
        if config.decay == "fixed":
            log_f = jnp.log1p(-jnp.exp2(-5.0 - jnp.arange(config.num_heads)))
            return jnp.broadcast_to(log_f.astype(self.param_dtype), (*steps, config.num_heads))
        down = linear(self, config.gate_rank, "forget_down")(inputs)
        up = linear(self, config.num_heads * key_dim, "forget_up", use_bias=True)(down)
        up = up.astype(self.param_dtype).reshape(*steps, config.num_heads, key_dim)
        return jax.nn.log_sigmoid(up) / config.gate_temperature

    @nn.nowrap
    def initialize_carry(self, key: Array, input_shape: tuple[int, ...]) -> Carry:
        """Return an empty memory and a window of zeros."""
        config, batch = self.config, input_shape[0]
        key_dim, value_dim = head_sizes(config)
        channels = config.num_heads * (2 * key_dim + value_dim)
        return (
            jnp.zeros((batch, config.num_heads, key_dim, value_dim), self.param_dtype),
            initial_window(batch, config.conv_dim, channels, self.param_dtype),
        )
