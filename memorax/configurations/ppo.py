"""Configuration of proximal policy optimization."""

from dataclasses import dataclass
from typing import Literal

from memorax.configurations.rollout import RolloutConfig
from memorax.validation import check_between


@dataclass(frozen=True)
class PPOConfig(RolloutConfig):
    """Hyperparameters of PPO; defaults as in Schulman et al. 2017 and its common implementations.

    Raises:
        ValueError: If a value is out of its range, ``num_envs * num_steps`` is not divisible by
            ``num_minibatches``, ``burn_in_length`` leaves nothing to learn from, advantages are
            normalised over a single step, or a threshold of V-trace is set without V-trace.

    Examples:
        >>> PPOConfig(num_envs=2, num_steps=4, clip_coefficient=-0.1)
        Traceback (most recent call last):
        ValueError: PPOConfig.clip_coefficient must be a number of at least 0, got -0.1
    """

    advantage: Literal["gae", "vtrace"] = "gae"
    """Advantages and targets: ``gae``, computed once for a rollout by the networks that acted, or
    ``vtrace``, computed anew for each minibatch by the current ones, corrected by importance."""
    gae_lambda: float = 0.95
    """Mix of the advantage's estimates: 0 trusts the critic, 1 the returns."""
    clip_rho_threshold: float = 1.0
    """V-trace's largest weight of a step's error; it decides whose values are learned."""
    clip_c_threshold: float = 1.0
    """V-trace's largest weight of the errors after a step; smaller is less variance."""
    clip_coefficient: float = 0.2
    """How far the importance ratio may leave 1 before its gradient is cut."""
    value_clip_coefficient: float | None = 0.2
    """How far a value may leave its old one before its gradient is cut, in standard deviations of a
    minibatch's targets where these are above 1; None: no clipping."""
    value_coefficient: float = 0.5
    """Weight of the value loss."""
    auxiliary_coefficient: float = 0.5
    """Weight of the loss of a horde's demons, if a network's head is a Horde."""
    entropy_coefficient: float = 0.01
    """Weight of the policy's entropy."""
    normalize_advantage: bool = True
    """Bring the advantages of a minibatch, of at least 2 steps, to mean 0 and standard deviation
    1."""
    target_kl: float | None = None
    """Skip the rest of an update once a minibatch's approximate KL exceeds this; None: never."""

    def __post_init__(self):
        """Check the fields."""
        super().__post_init__()
        check_between("PPOConfig.gae_lambda", self.gae_lambda, 0.0, 1.0)
        for field in (
            "clip_coefficient",
            "value_coefficient",
            "auxiliary_coefficient",
            "entropy_coefficient",
        ):
            check_between(f"PPOConfig.{field}", getattr(self, field), 0.0)
        if self.advantage not in ("gae", "vtrace"):
            raise ValueError(
                f"PPOConfig.advantage must be 'gae' or 'vtrace', got {self.advantage!r}"
            )
        for field in ("clip_rho_threshold", "clip_c_threshold"):
            threshold = getattr(self, field)
            check_between(f"PPOConfig.{field}", threshold, 0.0)
            # What is not known yet is a tracer.
            known = isinstance(threshold, int | float)
            if self.advantage != "vtrace" and known and threshold != 1.0:
                raise ValueError(
                    f"PPOConfig.{field} must be 1.0 unless advantage is 'vtrace', got {threshold}"
                )
        for field in ("value_clip_coefficient", "target_kl"):
            if getattr(self, field) is not None:
                check_between(f"PPOConfig.{field}", getattr(self, field), 0.0)
        learned_steps = self.num_envs * (self.num_steps - self.burn_in_length)
        if self.normalize_advantage and learned_steps == self.num_minibatches:
            raise ValueError(
                "PPOConfig.normalize_advantage needs minibatches of at least 2 steps, since the "
                "advantage of a single one becomes 0 and the actor learns nothing, got "
                f"num_envs={self.num_envs}, num_steps={self.num_steps}, "
                f"burn_in_length={self.burn_in_length}, num_minibatches={self.num_minibatches}"
            )
