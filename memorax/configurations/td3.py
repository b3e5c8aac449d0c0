"""Configuration of twin delayed deep deterministic policy gradients."""

from dataclasses import dataclass

from memorax.configurations.replay import ReplayConfig
from memorax.validation import check_between, check_positive


@dataclass(frozen=True)
class TD3Config(ReplayConfig):
    """Hyperparameters of TD3; defaults as in Fujimoto et al. 2018, sizes for small tasks.

    Noise is measured where the bounds of actions are -1 and 1, so that it fits any units.

    Raises:
        ValueError: As ``ReplayConfig``, or if a value of its own is out of its range.

    Examples:
        >>> TD3Config(policy_delay=0)
        Traceback (most recent call last):
        ValueError: TD3Config.policy_delay must be an integer of at least 1, got 0
    """

    gradient_steps: int = 32
    """Gradient steps of an update: each step is replayed 32 times, an eighth of the source's."""
    target_update_rate: float = 0.005
    """Step size of the targets' Polyak average, each time that the policy is updated."""
    policy_delay: int = 2
    """Gradient steps of the critic for each of the actor and of the targets."""
    exploration_noise: float = 0.1
    """Standard deviation of the noise added to actions while learning."""
    target_noise: float = 0.2
    """Standard deviation of the noise added to the target policy's actions."""
    target_noise_clip: float = 0.5
    """Largest size of the noise added to the target policy's actions."""

    def __post_init__(self):
        """Check the fields."""
        super().__post_init__()
        check_between("TD3Config.target_update_rate", self.target_update_rate, 0.0, 1.0)
        check_positive("TD3Config.policy_delay", self.policy_delay)
        for field in ("exploration_noise", "target_noise", "target_noise_clip"):
            check_between(f"TD3Config.{field}", getattr(self, field), 0.0)
