"""Configuration of Q-learning from fresh rollouts."""

from dataclasses import dataclass

from memorax.configurations.exploration import check_epsilon
from memorax.configurations.rollout import RolloutConfig
from memorax.validation import check_between


@dataclass(frozen=True)
class PQNConfig(RolloutConfig):
    """Hyperparameters of PQN; defaults after Gallici et al. 2024, sizes as for small tasks.

    Raises:
        ValueError: As ``RolloutConfig``, or if a value of its own is out of its range.

    Examples:
        >>> PQNConfig(q_lambda=2.0)
        Traceback (most recent call last):
        ValueError: PQNConfig.q_lambda must be a number from 0 to 1, got 2.0
    """

    num_steps: int = 64
    """Steps of each environment between updates: the length of the sequences learned from."""
    q_lambda: float = 0.5
    """Mix of Q(lambda): 0 trusts the next action values, 1 the returns."""
    normalize_rewards: bool = True
    """Learn from rewards divided by the typical size of returns so far, see ``ReturnScale``."""
    epsilon_start: float = 1.0
    """Share of random actions at the beginning."""
    epsilon_end: float = 0.05
    """Share of random actions in the end."""
    epsilon_decay_steps: int = 50_000
    """Environment steps over which the share of random actions falls, linearly."""

    def __post_init__(self):
        """Check the fields."""
        super().__post_init__()
        check_between("PQNConfig.q_lambda", self.q_lambda, 0.0, 1.0)
        check_epsilon(self)
