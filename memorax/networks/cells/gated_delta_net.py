"""Gated DeltaNet: the delta rule with a decay for each head.

See ``delta_rule.py`` for the equations, with::

    decay = exp(-exp(A_log) softplus(W_decay x + dt_bias))

Source: Yang et al. 2024, "Gated Delta Networks: Improving Mamba2 with Delta Rule", arXiv
2412.06464.
"""

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from memorax.networks.cells.delta_rule import DeltaRuleCell, DeltaRuleConfig
from memorax.networks.initializers import (
    check_steps_and_decays,
    inverse_softplus_of_log_uniform,
    log_of_uniform,
)
from memorax.networks.layers import linear
from memorax.validation import check_positive


@dataclass(frozen=True)
class GatedDeltaNetConfig(DeltaRuleConfig):
    """Sizes and initialisation of a ``GatedDeltaNetCell``; see also ``DeltaRuleConfig``.

    Attributes:
        num_value_heads: Number of heads of values, a multiple of ``num_heads``: each key head
            serves neighbouring ones. ``None``: ``num_heads``.
        use_gate: Whether the outputs are multiplied with silu(W_gate x), as in the paper.
        min_step: Least softplus(dt_bias) at first, drawn log-uniformly up to ``max_step``.
        max_step: Largest softplus(dt_bias) at first.
        min_decay: Least exp(A_log) at first, drawn uniformly up to ``max_decay``, as Mamba-2's.
        max_decay: Largest exp(A_log) at first.

    Raises:
        ValueError: As ``DeltaRuleConfig``, and if ``num_heads`` does not divide
            ``num_value_heads``.

    Examples:
        >>> config = GatedDeltaNetConfig(features=16, num_value_heads=8)
        >>> GatedDeltaNetConfig(features=0, num_value_heads=8)
        Traceback (most recent call last):
        ValueError: GatedDeltaNetConfig.features must be an integer of at least 1, got 0
    """

    num_value_heads: int | None = None
    use_gate: bool = True
    min_step: float = 0.001
    max_step: float = 0.1
    min_decay: float = 1.0
    max_decay: float = 16.0

    def __post_init__(self):
        """Check the fields."""
        super().__post_init__()
        if self.num_value_heads is not None:
            check_positive("GatedDeltaNetConfig.num_value_heads", self.num_value_heads)
            if self.num_value_heads % self.num_heads:
                raise ValueError(
                    "GatedDeltaNetConfig.num_value_heads must be a multiple of num_heads, got "
                    f"num_value_heads={self.num_value_heads}, num_heads={self.num_heads}"
                )
        check_steps_and_decays(self)


class GatedDeltaNetCell(DeltaRuleCell):
    """The Gated DeltaNet mixer, to be run by ``Memoroid``; see ``DeltaRuleCell``.

    Examples:
        >>> config = GatedDeltaNetConfig(features=16, num_value_heads=8)
        >>> torso = Memoroid(GatedDeltaNetCell(config))
        >>> (carry, outputs), params = jax.eval_shape(torso.init_with_output, key, inputs)
        >>> [leaf.shape for leaf in jax.tree.leaves(carry)]
        [(2, 8, 4, 4), (2, 3, 64)]
        >>> outputs.shape
        (2, 5, 16)
    """

    config: GatedDeltaNetConfig

    def log_decay(
        self, inputs: Float[Array, "batch time features"]
    ) -> Float[Array, "batch time heads"]:
        """Return the logarithm of each head's decay."""
        config, heads = self.config, (self.num_value_heads(),)
        draw_decays = log_of_uniform(config.min_decay, config.max_decay)
        draw_steps = inverse_softplus_of_log_uniform(config.min_step, config.max_step)
        A_log = self.param("A_log", draw_decays, heads, self.param_dtype)
        dt_bias = self.param("dt_bias", draw_steps, heads, self.param_dtype)
        a = linear(self, *heads, "decay")(inputs).astype(self.param_dtype)
        return -jnp.exp(A_log) * jax.nn.softplus(a + dt_bias)

    @nn.nowrap
    def num_value_heads(self) -> int:
        """Return the number of heads of values."""
        return self.config.num_value_heads or self.config.num_heads
