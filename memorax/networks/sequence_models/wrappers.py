"""Plain modules as sequence models."""

from typing import Any

import flax.linen as nn
from jaxtyping import Array, Bool, Float

from memorax.networks.sequence_models.base import (
    Carry,
    SequenceModel,
    apply_sequence_model,
    check_sequence_model,
    initialize_carry,
)
from memorax.networks.sequence_models.sensitivities import without_exact_gradient


class SequenceModelWrapper(SequenceModel):
    """Lift a module without memory, such as an MLP, to a sequence model whose carry is ``()``.

    Attributes:
        module: Any module or callable that maps ``(batch, time, features)`` to
            ``(batch, time, features_out)``, each step by itself.

    Raises:
        ValueError: At construction, if ``module`` is not callable or is a recurrent cell.

    Examples:
        >>> torso = SequenceModelWrapper(nn.Sequential((nn.Dense(16), nn.relu)))
        >>> carry, outputs = torso.apply(torso.init(key, inputs), inputs)
        >>> carry
        ()
    """

    module: Any

    def __post_init__(self):
        """Check the fields."""
        check_sequence_model("SequenceModelWrapper.module", self.module)
        super().__post_init__()

    def __call__(
        self,
        inputs: Float[Array, "batch time features"],
        done: Bool[Array, "batch time"] | None = None,
        initial_carry: Carry | None = None,
    ) -> tuple[Carry, Float[Array, "batch time features_out"]]:
        """Apply the module to every step; see ``SequenceModel``."""
        return apply_sequence_model(self.module, inputs, done, initial_carry)

    @nn.nowrap
    def initialize_carry(self, key: Array, input_shape: tuple[int, ...]) -> Carry:
        """Return ``()``, or the carry of the sequence model that was wrapped needlessly."""
        return initialize_carry(self.module, key, input_shape)

    @nn.nowrap
    def without_exact_gradient(self) -> tuple[str, ...]:
        """Return those of the wrapped module, if it is a memory; see ``SequenceModel``."""
        return without_exact_gradient(self.module)
