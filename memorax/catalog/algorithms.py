"""Algorithms by name."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AlgorithmSummary:
    """What an algorithm is, in a few words.

    Attributes:
        kind: What it learns from.
        actions: The actions that it can choose.
        paper: Where it was published, as shortly as it can be found.
    """

    kind: str
    actions: str
    paper: str


ALGORITHMS = {
    "ppo": AlgorithmSummary("fresh rollouts", "discrete or continuous", "arXiv 1707.06347"),
    "dqn": AlgorithmSummary("replay", "discrete", "arXiv 1312.5602"),
    "r2d2": AlgorithmSummary("prioritized replay", "discrete", "Kapturowski 2019"),
    "pqn": AlgorithmSummary("fresh rollouts", "discrete", "arXiv 2407.04811"),
    "sac": AlgorithmSummary("replay", "continuous", "arXiv 1812.05905"),
}
"""Every algorithm by its name."""
