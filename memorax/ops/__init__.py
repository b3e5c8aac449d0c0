"""Pure functions on arrays: recurrences with resets and initial state."""

from memorax.ops.associative_scan import associative_scan
from memorax.ops.causal_convolution import causal_conv1d
from memorax.ops.gated_outer_product import gated_outer_product
from memorax.ops.gated_recurrence import gru, lstm
from memorax.ops.implementation import Implementation
from memorax.ops.linear_recurrence import linear_recurrence

__all__ = [
    "Implementation",
    "associative_scan",
    "causal_conv1d",
    "gated_outer_product",
    "gru",
    "linear_recurrence",
    "lstm",
]
