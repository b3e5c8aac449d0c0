"""Memory over trials of several episodes."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from memorax.networks.sequence_models.base import (
    Carry,
    SequenceModel,
    apply_sequence_model,
    check_sequence_model,
    checked_carry,
    checked_inputs,
    initialize_carry,
)
from memorax.networks.sequence_models.sensitivities import without_exact_gradient
from memorax.validation import check_integer

LONGEST_TRIAL = 2**30
"""So that the steps of a trial and those of a call add up within int32."""


class RL2Wrapper(SequenceModel):
    """Remember across the episodes of a trial, and reset where the next trial begins.

    Episodes of a trial share one hidden task, which a memory that survives them can come to know:
    learning by remembering. A trial is ``steps_per_trial`` steps, counted for each row in the
    carry; ``done`` resets nothing. With s how many steps of the trial were read, which starts at
    0 in a fresh carry, and n for ``steps_per_trial``::

        carry', y = sequence_model(x, done = (s == n), carry),    s' = s mod n + 1

    Of the laws of a memory all hold, except that the reset is where the next trial begins. The
    first trial needs none: it begins from the carry that is given, be it drawn or learnt.

    Within a trial the wrapped memory learns of an episode's end only by what it reads, so give the
    ``FeatureExtractor`` a ``done_extractor`` beside those of actions and rewards, and
    ``across_episodes=True``, without which it hides an episode's last reward. The environment has
    to draw a new task after ``steps_per_trial`` steps.

    Attributes:
        sequence_model: The memory, any sequence model.
        steps_per_trial: Number of steps of a trial, over all its episodes.

    Raises:
        ValueError: At construction, if ``sequence_model`` is not a sequence model or
            ``steps_per_trial`` is not an integer of at least 1; at the call, as ``SequenceModel``.

    Source: Duan et al. 2016, RL², arXiv 1611.02779, section 2.2; Wang et al. 2016, arXiv
    1611.05763.

    Examples:
        >>> torso = RL2Wrapper(RNN(nn.GRUCell(16)), steps_per_trial=100)
        >>> (carry, outputs), params = jax.eval_shape(torso.init_with_output, key, inputs)
        >>> [leaf.shape for leaf in jax.tree.leaves(carry)]
        [(2, 16), (2,)]
        >>> outputs.shape
        (2, 5, 16)
    """

    sequence_model: Any
    steps_per_trial: int

    def __post_init__(self):
        """Check the fields."""
        check_sequence_model("RL2Wrapper.sequence_model", self.sequence_model)
        check_integer("RL2Wrapper.steps_per_trial", self.steps_per_trial, 1, LONGEST_TRIAL)
        super().__post_init__()

    def __call__(
        self,
        inputs: Float[Array, "batch time features"],
        done: Bool[Array, "batch time"] | None = None,
        initial_carry: Carry | None = None,
    ) -> tuple[Carry, Float[Array, "batch time features_out"]]:
        """Read a chunk of a sequence as a ``SequenceModel``, but ignore ``done``."""
        inputs, _ = checked_inputs(self, inputs, done)
        carry, steps_read = checked_carry(self, initial_carry, inputs)
        time = inputs.shape[1]
        steps = steps_read[:, None] + jnp.arange(time, dtype=steps_read.dtype)
        begins = (steps > 0) & (steps % self.steps_per_trial == 0)
        carry, outputs = apply_sequence_model(self.sequence_model, inputs, begins, carry)
        return (carry, steps[:, -1] % self.steps_per_trial + 1), outputs

    @nn.nowrap
    def initialize_carry(self, key: Array, input_shape: tuple[int, ...]) -> Carry:
        """Return the memory's own fresh carry, and how many steps each row read of its trial."""
        carry = initialize_carry(self.sequence_model, key, input_shape)
        return carry, jnp.zeros(input_shape[:1], jnp.int32)

    @nn.nowrap
    def without_exact_gradient(self) -> tuple[str, ...]:
        """Return those of the wrapped memory; see ``SequenceModel``."""
        return without_exact_gradient(self.sequence_model)
