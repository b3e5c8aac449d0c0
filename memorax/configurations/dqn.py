"""Configuration of deep Q-learning, its refinements, and R2D2."""

from dataclasses import dataclass

from memorax.configurations.exploration import check_epsilon
from memorax.configurations.replay import ReplayConfig
from memorax.validation import check_between, check_integer, check_positive


@dataclass(frozen=True)
class DQNConfig(ReplayConfig):
    """Hyperparameters of DQN; sizes fit small tasks that need memory.

    Raises:
        ValueError: If a value is out of its range, ``sequence_length`` is not a multiple of
            ``num_steps``, burn-in or ``n_step`` leave nothing to learn from, or the replay is
            smaller than a batch.

    Examples:
        >>> DQNConfig(epsilon_end=1.5)
        Traceback (most recent call last):
        ValueError: DQNConfig.epsilon_end must be a number from 0 to 1, got 1.5
    """

    n_step: int = 1
    """Rewards that a target adds up before it bootstraps."""
    double_q: bool = True
    """Let the network choose the action that the target network values (arXiv 1509.06461)."""
    value_rescaling: bool = False
    """Learn values on a scale that grows like a square root (arXiv 1805.11593, section 3.1)."""
    target_update_period: int = 1
    """Gradient steps between updates of the target network."""
    target_update_rate: float = 0.01
    """Step size of the target network's Polyak average, each update; 1 copies."""
    epsilon_start: float = 1.0
    """Share of random actions at the beginning."""
    epsilon_end: float = 0.05
    """Share of random actions in the end."""
    epsilon_decay_steps: int = 50_000
    """Environment steps over which the share of random actions falls, linearly."""
    priority_exponent: float | None = None
    """Exponent of the priorities in sampling, 0 to 1; None: uniform replay."""
    importance_exponent: float = 0.6
    """Exponent of the importance weights that correct for prioritised sampling, 0 to 1."""
    max_priority_weight: float = 0.9
    """Share of the largest error, rather than the mean one, in a sequence's priority."""

    def __post_init__(self):
        """Check the fields."""
        super().__post_init__()
        name = type(self).__name__
        check_positive(f"{name}.target_update_period", self.target_update_period)
        for field in ("target_update_rate", "importance_exponent", "max_priority_weight"):
            check_between(f"{name}.{field}", getattr(self, field), 0.0, 1.0)
        if self.priority_exponent is not None:
            check_between(f"{name}.priority_exponent", self.priority_exponent, 0.0, 1.0)
        check_epsilon(self)
        check_integer(f"{name}.n_step", self.n_step, 1, self.sequence_length - self.burn_in_length)


@dataclass(frozen=True)
class R2D2Config(DQNConfig):
    """DQN with the choices of R2D2: stored carries, burn-in, overlap, priorities, rescaling.

    Published for 10^10 steps of 256 actors, each with an epsilon of its own. So that a run of 10^5
    to 10^7 steps learns, batches are smaller, and the target network follows at each gradient step
    in place of a copy every 2,500. Normalised rewards take the place of ``value_rescaling`` and
    ``n_step`` is 1: on RepeatPreviousEasy, where the difference between actions is a fiftieth of a
    return, the published ones hide it for 500,000 steps.

    Source: Kapturowski et al. 2019, "Recurrent Experience Replay in Distributed Reinforcement
        Learning", sections 2.3 and 3, and table 2.

    Examples:
        >>> config = R2D2Config(sequence_length=80, burn_in_length=40)
        >>> isinstance(config, DQNConfig), config.priority_exponent
        (True, 0.9)
    """

    num_steps: int = 40
    sequence_length: int = 80
    burn_in_length: int = 40
    gamma: float = 0.997
    priority_exponent: float | None = 0.9
