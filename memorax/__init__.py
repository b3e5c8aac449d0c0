"""Memory for reinforcement learning agents, in JAX."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memorax.algorithms.policy import Policy
    from memorax.algorithms.progress import ProgressBar
    from memorax.algorithms.saving import load, save

__version__ = "0.1.0"

# Acting and training need much that building networks does not: imported when they are asked for.
_MODULES = {
    "Policy": "memorax.algorithms.policy",
    "ProgressBar": "memorax.algorithms.progress",
    "load": "memorax.algorithms.saving",
    "save": "memorax.algorithms.saving",
}
__all__ = ["Policy", "ProgressBar", "load", "save"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
