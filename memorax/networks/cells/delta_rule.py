"""The delta rule, which cells complete with a decay.

For each head, with q and k normalised to length 1 (see ``matrix_memory.py`` for the layer)::

    beta = max_beta sigmoid(W_beta x)
    S~ = decay S
    S' = S~ + k (beta (v - S~^T k))^T
    y  = S'^T q / sqrt(key_dim)
"""

from dataclasses import dataclass

import jax
from jaxtyping import Array, Bool, Float

from memorax import ops
from memorax.networks.cells.matrix_memory import MatrixMemoryCell, MatrixMemoryConfig
from memorax.networks.layers import linear, unit_length
from memorax.ops.implementation import Implementation
from memorax.validation import check_between


@dataclass(frozen=True)
class DeltaRuleConfig(MatrixMemoryConfig):
    """Sizes of a layer with the delta rule, in addition to those of ``MatrixMemoryConfig``.

    Attributes:
        max_beta: Largest beta, above 0 and at most 2. With 1 a write replaces at most what the key
            holds; with 2 it can flip its sign, which counting modulo 2 needs.

    Raises:
        ValueError: As ``MatrixMemoryConfig``, and if ``max_beta`` is out of its range.
    """

    max_beta: float = 1.0

    def __post_init__(self):
        """Check the fields."""
        super().__post_init__()
        check_between(f"{type(self).__name__}.max_beta", self.max_beta, 1e-3, 2.0)


class DeltaRuleCell(MatrixMemoryCell):
    """A layer with the delta rule; a subclass defines the decay. See ``MatrixMemoryCell``."""

    def log_decay(self, inputs: Float[Array, "batch time features"]) -> Array | None:
        """Return the decays' logarithms, a head or a key channel; ``None``: nothing decays."""
        raise NotImplementedError(f"{type(self).__name__} must implement log_decay")

    def recurrence(
        self,
        inputs: Float[Array, "batch time features"],
        query: Float[Array, "batch time groups key_dim"],
        key: Float[Array, "batch time groups key_dim"],
        value: Float[Array, "batch time heads value_dim"],
        done: Bool[Array, "batch time"],
        state: Float[Array, "batch heads key_dim value_dim"],
        implementation: Implementation,
        chunk_size: int | None,
    ) -> tuple[Array, Array]:
        """Return the last state and what was read."""
        q, k = unit_length(query) / query.shape[-1] ** 0.5, unit_length(key)
        b = linear(self, value.shape[2], "beta")(inputs).astype(state.dtype)
        beta = self.config.max_beta * jax.nn.sigmoid(b)
        decay = self.log_decay(inputs)
        return ops.delta_rule(q, k, value, beta, decay, done, state, implementation, chunk_size)
