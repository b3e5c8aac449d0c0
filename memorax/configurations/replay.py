"""Configuration of algorithms that learn from a replay of sequences."""

from dataclasses import dataclass

from memorax.validation import check_between, check_integer, check_positive


@dataclass(frozen=True)
class ReplayConfig:
    """Hyperparameters of every algorithm with a replay of sequences; sizes fit small tasks.

    Raises:
        ValueError: If a value is out of its range, ``sequence_length`` is not a multiple of
            ``num_steps``, burn-in leaves nothing to learn from, or the replay is smaller than a
            batch.
    """

    num_envs: int = 16
    """Environments that run side by side."""
    num_steps: int = 32
    """Steps of each environment between updates."""
    sequence_length: int = 32
    """Steps of the sequences learned from, a multiple of num_steps; what is more overlaps."""
    burn_in_length: int = 0
    """First steps of each sequence that only refresh the carry and are not learned from."""
    buffer_size: int = 100_000
    """Steps that the replay holds, rounded up to whole sequences of every environment."""
    learning_starts: int = 5_000
    """Environment steps before the first gradient step."""
    batch_size: int = 16
    """Sequences of a gradient step."""
    gradient_steps: int = 8
    """Gradient steps of an update: by default each step is replayed 8 times, as by DQN's source."""
    gamma: float = 0.99
    """Discount of a reward one step later."""
    normalize_rewards: bool = True
    """Learn from rewards divided by the typical size of returns so far, see ``ReturnScale``."""
    sown_loss_coefficient: float = 1.0
    """Weight of what the networks' parts sow under losses, as a mixture of experts' balance."""

    def __post_init__(self):
        """Check the fields."""
        name = type(self).__name__
        for field in (
            "num_envs",
            "num_steps",
            "sequence_length",
            "buffer_size",
            "learning_starts",
            "batch_size",
            "gradient_steps",
        ):
            check_positive(f"{name}.{field}", getattr(self, field))
        check_between(f"{name}.gamma", self.gamma, 0.0, 1.0)
        check_between(f"{name}.sown_loss_coefficient", self.sown_loss_coefficient, 0.0)
        if self.sequence_length % self.num_steps:
            raise ValueError(
                f"{name}.sequence_length must be a multiple of num_steps, got "
                f"sequence_length={self.sequence_length}, num_steps={self.num_steps}"
            )
        # Every step is to be learned from in some sequence, so num_steps have to remain.
        check_integer(
            f"{name}.burn_in_length", self.burn_in_length, 0, self.sequence_length - self.num_steps
        )
        if self.num_sequences < self.batch_size:
            raise ValueError(
                f"{name}.buffer_size must hold at least batch_size sequences, got "
                f"buffer_size={self.buffer_size} ({self.num_sequences} sequences), "
                f"batch_size={self.batch_size}"
            )

    @property
    def first_learning_update(self) -> int:
        """The update, counted from 1, of the first gradient step."""
        # Not counted in steps: those of a long run do not fit into 32 bits.
        return -(-self.learning_starts // (self.num_envs * self.num_steps))

    def optimizer_steps(self, num_updates: int) -> int:
        """Return the steps of the optimizer in the first updates of a run."""
        return self.gradient_steps * max(0, num_updates - self.first_learning_update + 1)

    @property
    def num_sequences(self) -> int:
        """Sequences that the replay holds."""
        return -(-self.buffer_size // (self.num_envs * self.num_steps)) * self.num_envs
