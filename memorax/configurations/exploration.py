"""Configuration of epsilon-greedy exploration."""

from typing import Any

from memorax.validation import check_between, check_positive


def check_epsilon(config: Any) -> None:
    """Check ``epsilon_start``, ``epsilon_end`` and ``epsilon_decay_steps`` of a configuration."""
    name = type(config).__name__
    for field in ("epsilon_start", "epsilon_end"):
        check_between(f"{name}.{field}", getattr(config, field), 0.0, 1.0)
    check_positive(f"{name}.epsilon_decay_steps", config.epsilon_decay_steps)
