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
    """Sizes of a ``DeltaNetCell``, in addition to those of ``DeltaRuleConfig``.

    Attributes:
        use_gate: Whether the outputs are multiplied with silu(W_gate x); the paper's are not.

    Raises:
        ValueError: As ``DeltaRuleConfig``.

    Examples:
        >>> config = DeltaNetConfig(features=16, max_beta=2.0)
        >>> DeltaNetConfig(features=16, max_beta=3.0)
        Traceback (most recent call last):
        ValueError: DeltaNetConfig.max_beta must be a number from 0.001 to 2, got 3.0
    """

    use_gate: bool = False


class DeltaNetCell(DeltaRuleCell):
    """The DeltaNet mixer, to be run by ``Memoroid``; see ``DeltaRuleCell``.

    Examples:
        >>> torso = Memoroid(DeltaNetCell(DeltaNetConfig(features=16)))
        >>> (carry, outputs), params = jax.eval_shape(torso.init_with_output, key, inputs)
        >>> [leaf.shape for leaf in jax.tree.leaves(carry)]
        [(2, 4, 4, 4), (2, 3, 48)]
        >>> outputs.shape
        (2, 5, 16)
    """

    config: DeltaNetConfig

    def log_decay(self, inputs: Float[Array, "batch time features"]) -> None:
        """Return ``None``: no decay."""
