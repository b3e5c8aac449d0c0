"""Configuration of soft actor-critic."""

from dataclasses import dataclass

from memorax.configurations.replay import ReplayConfig
from memorax.validation import check_between

SMALLEST_NORMAL = 2.0**-126
"""The smallest positive float32 that is not rounded to zero on the devices."""


@dataclass(frozen=True)
class SACConfig(ReplayConfig):
    """Hyperparameters of SAC; defaults as in Haarnoja et al. 2018, sizes for small tasks.

    Raises:
        ValueError: As ``ReplayConfig``, or if a value of its own is out of its range.

    Examples:
        >>> SACConfig(target_update_rate=2.0)
        Traceback (most recent call last):
        ValueError: SACConfig.target_update_rate must be a number from 0 to 1, got 2.0
    """

    gradient_steps: int = 32
    """Gradient steps of an update: each step is replayed 32 times, an eighth of the source's."""
    target_update_rate: float = 0.005
    """Step size of the target critic's Polyak average, each gradient step."""
    initial_temperature: float = 0.01
    """Weight of the entropy at the beginning, where returns have size 1: that of 1 where they have
    100, which is about the source's."""
    target_entropy: float | None = None
    """Entropy that the temperature is to keep, of actions whose bounds are brought to -1 and 1;
    None: minus the dimensions of an action."""

    def __post_init__(self):
        """Check the fields."""
        super().__post_init__()
        check_between("SACConfig.target_update_rate", self.target_update_rate, 0.0, 1.0)
        check_between("SACConfig.initial_temperature", self.initial_temperature, SMALLEST_NORMAL)
        if self.target_entropy is not None:
            check_between("SACConfig.target_entropy", self.target_entropy, -1e30, 1e30)
