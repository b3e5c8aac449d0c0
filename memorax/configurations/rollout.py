"""Configuration of algorithms that learn from fresh rollouts."""

from dataclasses import dataclass

from memorax.validation import check_between, check_integer, check_positive


@dataclass(frozen=True)
class RolloutConfig:
    """Hyperparameters of every algorithm with fresh rollouts.

    Raises:
        ValueError: If a value is out of its range, ``num_envs * num_steps`` is not divisible by
            ``num_minibatches``, ``minibatch_groups`` does not divide ``num_envs`` and what a
            minibatch holds, or ``burn_in_length`` leaves nothing to learn from.
    """

    num_envs: int = 16
    """Environments that run side by side."""
    num_steps: int = 128
    """Steps of each environment between updates: the length of the sequences learned from."""
    num_minibatches: int = 4
    """Parts that a rollout is split into; whole sequences, unless the networks hold no carry."""
    minibatch_groups: int = 1
    """Groups that the environments are divided into; each minibatch holds as many sequences of one
    as of another. If the number of devices divides it, no device sends a rollout to another."""
    update_epochs: int = 4
    """Times that each rollout is learned from."""
    gamma: float = 0.99
    """Discount of a reward one step later."""
    burn_in_length: int = 0
    """First steps of each sequence that only refresh the carry and are not learned from."""
    sown_loss_coefficient: float = 1.0
    """Weight of what the networks' parts sow under losses, as a mixture of experts' balance."""

    def __post_init__(self):
        """Check the fields."""
        name = type(self).__name__
        for field in (
            "num_envs",
            "num_steps",
            "num_minibatches",
            "minibatch_groups",
            "update_epochs",
        ):
            check_positive(f"{name}.{field}", getattr(self, field))
        check_between(f"{name}.gamma", self.gamma, 0.0, 1.0)
        check_between(f"{name}.sown_loss_coefficient", self.sown_loss_coefficient, 0.0)
        if self.num_envs * self.num_steps % self.num_minibatches:
            raise ValueError(
                f"{name}.num_envs * num_steps must be divisible by num_minibatches, got "
                f"num_envs={self.num_envs}, num_steps={self.num_steps}, "
                f"num_minibatches={self.num_minibatches}"
            )
        group_envs, rest = divmod(self.num_envs, self.minibatch_groups)
        if rest or group_envs * self.num_steps % self.num_minibatches:
            raise ValueError(
                f"{name}.minibatch_groups must divide num_envs, and num_minibatches the steps of a "
                f"group, got minibatch_groups={self.minibatch_groups}, num_envs={self.num_envs}, "
                f"num_steps={self.num_steps}, num_minibatches={self.num_minibatches}"
            )
        # At least one step has to remain to learn from.
        check_integer(f"{name}.burn_in_length", self.burn_in_length, 0, self.num_steps - 1)

    def optimizer_steps(self, num_updates: int) -> int:
        """Return the steps of the optimizer in the first updates of a run."""
        return num_updates * self.update_epochs * self.num_minibatches
