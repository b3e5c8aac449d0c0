"""Pure functions on arrays: recurrences and attention, with resets and initial state."""

from memorax.ops.associative_scan import associative_scan
from memorax.ops.attention import (
    AttentionImplementation,
    sliding_window_attention,
    sliding_window_attention_weights,
)
from memorax.ops.causal_convolution import causal_conv1d
from memorax.ops.delta_rule import delta_rule, gated_linear_attention, generalized_delta_rule
from memorax.ops.gated_outer_product import gated_outer_product
from memorax.ops.gated_recurrence import gru, lstm
from memorax.ops.implementation import Implementation
from memorax.ops.linear_recurrence import linear_recurrence
from memorax.ops.positions import Positions
from memorax.ops.real_time_gradient import (
    next_sensitivity,
    reset_sensitivity,
    state_with_history,
    zero_sensitivity,
)
from memorax.ops.running_angle import running_angle
from memorax.ops.windows import episode_age, slide_window

__all__ = [
    "AttentionImplementation",
    "Implementation",
    "Positions",
    "associative_scan",
    "causal_conv1d",
    "delta_rule",
    "episode_age",
    "gated_linear_attention",
    "gated_outer_product",
    "generalized_delta_rule",
    "gru",
    "linear_recurrence",
    "lstm",
    "next_sensitivity",
    "reset_sensitivity",
    "running_angle",
    "slide_window",
    "sliding_window_attention",
    "sliding_window_attention_weights",
    "state_with_history",
    "zero_sensitivity",
]
