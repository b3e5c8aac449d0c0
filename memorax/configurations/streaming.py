"""Configuration of streaming actor-critic."""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from memorax.validation import check_between, check_positive, unknown_name

RecurrentGradient = Literal["exact", "truncated"]


@dataclass(frozen=True)
class StreamingActorCriticConfig:
    """Hyperparameters of streaming actor-critic; defaults of Elsayed et al. 2024.

    Raises:
        ValueError: If a value is out of its range.

    Examples:
        >>> StreamingActorCriticConfig(trace_decay=1.5)
        Traceback (most recent call last):
        ValueError: StreamingActorCriticConfig.trace_decay must be a number from 0 to 1, got 1.5
    """

    num_envs: ClassVar[int] = 1
    """One environment; seeds are independent streams."""

    num_steps: int = 1_024
    """Steps that an entry of the metrics is about. Each is learned from as it happens."""
    gamma: float = 0.99
    """Discount of a reward one step later."""
    trace_decay: float = 0.8
    """Lambda: 0 gives credit for an error to the latest step alone, 1 to all steps of the
    episode."""
    step_size: float = 1.0
    """The largest step along a trace, alpha; the bound on overshooting makes most steps shorter."""
    actor_kappa: float = 3.0
    """How much shorter than the bound the actor's steps are."""
    critic_kappa: float = 2.0
    """How much shorter than the bound the critic's steps are."""
    entropy_coefficient: float = 0.01
    """Weight of the policy's entropy in the actor's trace."""
    sparsity: float = 0.9
    """Share of each unit's incoming weights that begin at 0; at least one does not. A value of 0
    keeps what the networks' own initializers draw."""
    recurrent_gradient: RecurrentGradient = "exact"
    """How far gradients reach back: exact is the whole episode, for memories whose units do not
    read each other's state; truncated is the latest step, for any memory."""
    normalize_observations: bool = True
    """Shift and scale observations by their running mean and deviation, if they are arrays of real
    numbers."""
    normalize_rewards: bool = True
    """Learn from rewards divided by the typical size of returns so far, see ``ReturnScale``."""

    def __post_init__(self):
        """Check the fields."""
        name = type(self).__name__
        check_positive(f"{name}.num_steps", self.num_steps)
        for field in ("gamma", "trace_decay"):
            check_between(f"{name}.{field}", getattr(self, field), 0.0, 1.0)
        check_between(f"{name}.sparsity", self.sparsity, 0.0, 1.0)
        for field in ("step_size", "actor_kappa", "critic_kappa", "entropy_coefficient"):
            check_between(f"{name}.{field}", getattr(self, field), 0.0)
        if self.recurrent_gradient not in get_args(RecurrentGradient):
            raise ValueError(
                f"{name}.recurrent_gradient: "
                + unknown_name(
                    "recurrent_gradient", self.recurrent_gradient, get_args(RecurrentGradient)
                )
            )

    def optimizer_steps(self, num_updates: int) -> int:
        """Return the steps that are learned from in the first updates of a run."""
        return num_updates * self.num_steps
