"""DeltaNet: the delta rule without decay.

See ``delta_rule.py`` for the equations, with a decay of 1.

Source: Yang et al. 2024, "Parallelizing Linear Transformers with the Delta Rule over Sequence
Length", arXiv 2406.06484.
"""

from dataclasses import dataclass

from jaxtyping import Array, Float

from memorax.networks.cells.delta_rule import DeltaRuleCell, DeltaRuleConfig


@dataclass(frozen=True)
class DeltaNetConfig(DeltaRuleConfig):
    """Sizes of a ``DeltaNetCell``, beside those of ``DeltaRuleConfig``.

    Attributes:
        use_gate: Whether the outputs are multiplied with silu(W_gate x); the paper's are not.

    Raises:
        ValueError: As ``DeltaRuleConfig``.
    """

    use_gate: bool = False


class DeltaNetCell(DeltaRuleCell):
    """The DeltaNet mixer, to be run by ``Memoroid``; see ``DeltaRuleCell``."""

    config: DeltaNetConfig

    def log_decay(self, inputs: Float[Array, "batch time features"]) -> None:
        """Let nothing decay."""
