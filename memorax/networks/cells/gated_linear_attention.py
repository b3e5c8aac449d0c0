"""Gated linear attention, with RetNet and HGRN2 as configurations of it.

For each head, with a decay for each key channel (see ``matrix_memory.py`` for the layer)::

    log f = log sigmoid(W_up W_down x + b) / gate_temperature
    S' = f S + k v^T
    y  = S'^T q / sqrt(key_dim)

RetNet's decays are fixed, f = 1 - 2^(-5 - h) for head h; HGRN2's keys are 1 - f.

Source: Yang et al. 2023, "Gated Linear Attention Transformers with Hardware-Efficient Training",
arXiv 2312.06635; Sun et al. 2023, "Retentive Network", arXiv 2307.08621, section 2; Qin et al.
2024, "HGRN2", arXiv 2404.07904, section 3.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from memorax import ops
from memorax.networks.cells.matrix_memory import MatrixMemoryCell, MatrixMemoryConfig
from memorax.networks.layers import linear
from memorax.ops.implementation import Implementation
from memorax.validation import check_between, check_positive


@dataclass(frozen=True)
class GatedLinearAttentionConfig(MatrixMemoryConfig):
    """Sizes of a ``GatedLinearAttentionCell``, in addition to those of ``MatrixMemoryConfig``.

    Attributes:
        kernel_size: Steps that a convolution over queries, keys and values sees, followed by SiLU;
            ``None``: neither, as in the paper.
        decay: ``"gated"``, or ``"fixed"`` as RetNet's.
        keys: ``"projected"``, or ``"forgotten"`` for 1 - f as HGRN2's.
        gate_rank: Rank of the forget gate's projection, the authors' 16.
        gate_temperature: Divides the forget gate's logarithm: with the authors' 16 a state at first
            lasts about 23 steps.
        use_gate: Whether the outputs are multiplied with silu(W_gate x).

    Raises:
        ValueError: As ``MatrixMemoryConfig``, and if another field is out of its range.

    Examples:
        >>> config = GatedLinearAttentionConfig(features=16, gate_rank=8)
        >>> GatedLinearAttentionConfig(features=0, gate_rank=8)
        Traceback (most recent call last):
        ValueError: GatedLinearAttentionConfig.features must be an integer of at least 1, got 0
    """

    kernel_size: int | None = None
    decay: Literal["gated", "fixed"] = "gated"
    keys: Literal["projected", "forgotten"] = "projected"
    gate_rank: int = 16
    gate_temperature: float = 16.0
    use_gate: bool = True

    def __post_init__(self):
        """Check the fields."""
        super().__post_init__()
        name = "GatedLinearAttentionConfig"
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


class GatedLinearAttentionCell(MatrixMemoryCell):
    """The mixer of gated linear attention, to be run by ``Memoroid``; see ``MatrixMemoryCell``.

    Examples:
        >>> torso = Memoroid(GatedLinearAttentionCell(GatedLinearAttentionConfig(features=16)))
        >>> (carry, outputs), params = jax.eval_shape(torso.init_with_output, key, inputs)
        >>> [leaf.shape for leaf in jax.tree.leaves(carry)]
        [(2, 4, 4, 4)]
        >>> outputs.shape
        (2, 5, 16)
    """

    config: GatedLinearAttentionConfig

    def recurrence(
        self,
        inputs: Float[Array, "batch time features"],
        query: Float[Array, "batch time heads key_dim"],
        key: Float[Array, "batch time heads key_dim"],
        value: Float[Array, "batch time heads value_dim"],
        done: Bool[Array, "batch time"],
        state: Float[Array, "batch heads key_dim value_dim"],
        implementation: Implementation,
        chunk_size: int | None,
    ) -> tuple[Array, Array]:
        """Return the last state and what was read."""
        key_dim = key.shape[-1]
        log_f = self._log_forget_gate(inputs, key_dim)
        if self.config.keys == "forgotten":
            key = jnp.broadcast_to(-jnp.expm1(log_f.reshape(*log_f.shape[:3], -1)), key.shape)
        query /= key_dim**0.5
        options = done, state, implementation, chunk_size
        if self.config.decay == "fixed":
            return ops.gated_outer_product(query, key, value, log_f, None, *options)
        return ops.gated_linear_attention(query, key, value, log_f, *options)

    @nn.nowrap
    def activation(self) -> Callable[[Array], Array]:
        """Return what queries, keys and values pass through last."""
        return (lambda values: values) if self.config.kernel_size is None else jax.nn.silu

    def _log_forget_gate(self, inputs, key_dim):
        config, steps = self.config, inputs.shape[:2]
        if config.decay == "fixed":
            log_f = jnp.log1p(-jnp.exp2(-5.0 - jnp.arange(config.num_heads)))
            return jnp.broadcast_to(log_f.astype(self.param_dtype), (*steps, config.num_heads))
        down = linear(self, config.gate_rank, "forget_down")(inputs)
        up = linear(self, config.num_heads * key_dim, "forget_up", use_bias=True)(down)
        up = up.astype(self.param_dtype).reshape(*steps, config.num_heads, key_dim)
        return jax.nn.log_sigmoid(up) / config.gate_temperature
