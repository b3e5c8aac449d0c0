"""Memory for reinforcement learning agents, in JAX."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memorax.experiments.run.policy import Policy

__version__ = "0.1.0"
__all__ = ["Policy"]


def __getattr__(name: str) -> Any:
    # Acting needs much that building networks does not, so it is imported when it is asked for.
    if name == "Policy":
        from memorax.experiments.run.policy import Policy  # noqa: PLC0415

        return Policy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
