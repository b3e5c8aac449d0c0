"""Pure functions on arrays: recurrences with resets and initial state."""

from memorax.ops.gated_recurrence import gru, lstm

__all__ = ["gru", "lstm"]
