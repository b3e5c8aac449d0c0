"""Kimi Delta Attention: the delta rule with a decay for each key channel.

See ``delta_rule.py`` for the equations, with projections of low rank and ::

    a     = W_decay_up W_decay_down x + dt_bias
    decay = exp(-exp(A_log) softplus(a)), or exp(min_log_decay sigmoid(exp(A_log) a)) with a bound
    gate  = sigmoid(W_gate_up W_gate_down x + b)

A_log is one number a head.

Source: Kimi Team 2025, "Kimi Linear: An Expressive, Efficient Attention Architecture", arXiv
2510.26692.
"""

from dataclasses import dataclass

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
from memorax.validation import check_between, check_positive


@dataclass(frozen=True)
class KimiDeltaAttentionConfig(DeltaRuleConfig):
    """Sizes and initialisation of a ``KimiDeltaAttentionCell``; see also ``DeltaRuleConfig``.

    Attributes:
        rank: Of the projections of decay and gate; ``None``: ``value_dim``, as the authors have it.
        min_log_decay: The strongest decay's logarithm, below 0; ``None``: no bound.
        min_step: Least softplus(dt_bias) at first, drawn log-uniformly up to ``max_step``.
        max_step: Largest softplus(dt_bias) at first.
        min_decay: Least exp(A_log) at first, drawn uniformly up to ``max_decay``.
        max_decay: Largest exp(A_log) at first.

    Raises:
        ValueError: As ``DeltaRuleConfig``, and if ``min_log_decay`` is not below 0.

    Examples:
        >>> config = KimiDeltaAttentionConfig(features=16, min_log_decay=-5.0)
        >>> KimiDeltaAttentionConfig(features=0, min_log_decay=-5.0)
        Traceback (most recent call last):
        ValueError: KimiDeltaAttentionConfig.features must be an integer of at least 1, got 0
    """

    rank: int | None = None
    min_log_decay: float | None = None
    min_step: float = 0.001
    max_step: float = 0.1
    min_decay: float = 1.0
    max_decay: float = 16.0

    def __post_init__(self):
        """Check the fields."""
        super().__post_init__()
        if self.rank is not None:
            check_positive("KimiDeltaAttentionConfig.rank", self.rank)
        if self.min_log_decay is not None:
            name = "KimiDeltaAttentionConfig.min_log_decay"
            check_between(name, self.min_log_decay, -80.0, -1e-3)
        check_steps_and_decays(self)


class KimiDeltaAttentionCell(DeltaRuleCell):
    """The mixer of Kimi Linear, to be run by ``Memoroid``; see ``DeltaRuleCell``.

    Examples:
        >>> config = KimiDeltaAttentionConfig(features=16, min_log_decay=-5.0)
        >>> torso = Memoroid(KimiDeltaAttentionCell(config))
        >>> (carry, outputs), params = jax.eval_shape(torso.init_with_output, key, inputs)
        >>> [leaf.shape for leaf in jax.tree.leaves(carry)]
        [(2, 4, 4, 4), (2, 3, 48)]
        >>> outputs.shape
        (2, 5, 16)
    """

    config: KimiDeltaAttentionConfig

    def log_decay(
        self, inputs: Float[Array, "batch time features"]
    ) -> Float[Array, "batch time heads key_dim"]:
        """Return the logarithm of each key channel's decay."""
        config = self.config
        shape = config.num_heads, config.head_sizes[0]
        draw_decays = log_of_uniform(config.min_decay, config.max_decay)
        draw_steps = inverse_softplus_of_log_uniform(config.min_step, config.max_step)
        A_log = self.param("A_log", draw_decays, shape[:1], self.param_dtype)
        dt_bias = self.param("dt_bias", draw_steps, shape, self.param_dtype)
        rate = jnp.exp(A_log)[:, None]
        a = linear(self, shape[0] * shape[1], "decay_up")(self._low("decay_down", inputs))
        a = a.astype(self.param_dtype).reshape(*inputs.shape[:2], *shape) + dt_bias
        if config.min_log_decay is None:
            return -rate * jax.nn.softplus(a)
        return config.min_log_decay * jax.nn.sigmoid(rate * a)

    def gate(self, inputs: Float[Array, "batch time features"]) -> Array:
        """Return sigmoid(W_gate_up W_gate_down x + b)."""
        width = self.config.num_heads * self.config.head_sizes[1]
        up = linear(self, width, "gate_up", use_bias=True)
        return jax.nn.sigmoid(up(self._low("gate_down", inputs)))

    def _low(self, name, inputs):
        return linear(self, self.config.rank or self.config.head_sizes[1], name)(inputs)
