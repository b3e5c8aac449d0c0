"""Minimal gated recurrent unit.

::

    z  = sigmoid(W_z x + b_z)
    h~ = g(W_h x + b_h)         g(c) = c + 0.5 where c >= 0, else sigmoid(c)
    h' = (1 - z) h + z h~

The recurrence is not run in the space of logarithms: a mean of h and h~ can
neither overflow nor cancel, needs no logarithms, and lets a carry be of either sign.

Source: Feng et al. 2024, "Were RNNs All We Needed?", arXiv 2410.01201, section 3.1; g from
appendix B.2.
"""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from memorax import ops
from memorax.networks.initializers import check_memory_horizon, chrono_bias
from memorax.networks.layers import linear
from memorax.networks.sequence_models.base import Carry
from memorax.networks.sequence_models.memoroid import MemoroidCell
from memorax.ops.implementation import Implementation
from memorax.validation import check_positive


@dataclass(frozen=True)
class MinGRUConfig:
    """Sizes of a ``MinGRUCell``.

    Attributes:
        features: Width of the state, which is the output.
        use_bias: Whether the two linear maps have a bias, as in the paper.
        memory_horizon: Steps that the longest memory lasts at first: the gates' biases are spread
            by chrono initialisation (Tallec and Ollivier 2018, arXiv 1804.11188). ``None``: they
            are 0, and every memory lasts about two steps.

    Raises:
        ValueError: If ``features`` is not positive, or ``memory_horizon`` is below 2 or given
            without biases.

    Examples:
        >>> config = MinGRUConfig(features=16, memory_horizon=100)
        >>> MinGRUConfig(features=0, memory_horizon=100)
        Traceback (most recent call last):
        ValueError: MinGRUConfig.features must be an integer of at least 1, got 0
    """

    features: int
    use_bias: bool = True
    memory_horizon: int | float | None = None

    def __post_init__(self):
        """Check the fields."""
        check_positive("MinGRUConfig.features", self.features)
        check_memory_horizon("MinGRUConfig", self.memory_horizon)
        if self.memory_horizon is not None and not self.use_bias:
            raise ValueError(
                "MinGRUConfig.memory_horizon sets biases and needs use_bias=True, got "
                f"memory_horizon={self.memory_horizon}, use_bias=False"
            )


class MinGRUCell(MemoroidCell):
    """A minimal gated recurrent unit, to be run by ``Memoroid``. The carry is the state h.

    Attributes:
        config: Sizes.
        dtype: Of the products; ``None``: of inputs and parameters. The recurrence is computed in
            ``param_dtype``.
        param_dtype: Of parameters and carry.

    Examples:
        >>> torso = Memoroid(MinGRUCell(MinGRUConfig(features=16, memory_horizon=100)))
        >>> (carry, outputs), params = jax.eval_shape(torso.init_with_output, key, inputs)
        >>> [leaf.shape for leaf in jax.tree.leaves(carry)]
        [(2, 16)]
        >>> outputs.shape
        (2, 5, 16)
    """

    config: MinGRUConfig
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        inputs: Float[Array, "batch time features"],
        done: Bool[Array, "batch time"],
        carry: Carry,
        implementation: Implementation,
        chunk_size: int | None,
    ) -> tuple[Carry, Float[Array, "batch time features_out"]]:
        """Read a chunk of a sequence; see ``MemoroidCell``."""
        features, use_bias = self.config.features, self.config.use_bias
        horizon = self.config.memory_horizon
        gate_bias = nn.initializers.zeros_init() if horizon is None else chrono_bias(horizon, -1)
        gate = linear(self, features, "gate", use_bias, bias_init=gate_bias)(inputs)
        gate = gate.astype(carry.dtype)
        candidate = linear(self, features, "candidate", use_bias)(inputs).astype(carry.dtype)
        return ops.linear_recurrence(
            jax.nn.sigmoid(-gate),
            jax.nn.sigmoid(gate) * _g(candidate),
            done,
            carry,
            implementation,
            chunk_size=chunk_size,
        )

    @nn.nowrap
    def unit_parameters(self, params: PyTree) -> PyTree:
        """Return what each unit's recurrence depends on: kernels and biases, units last."""
        return params["gate"], params["candidate"]

    @nn.nowrap
    def unit_step(
        self, parameters: PyTree, state: Float[Array, " units"], inputs: Float[Array, " features"]
    ) -> Float[Array, " units"]:
        """Return the state after an input, as ``__call__`` does, for one row."""
        gate, candidate = (inputs @ layer["kernel"] + layer.get("bias", 0) for layer in parameters)
        return jax.nn.sigmoid(-gate) * state + jax.nn.sigmoid(gate) * _g(candidate)

    @nn.nowrap
    def initialize_carry(self, key: Array, input_shape: tuple[int, ...]) -> Carry:
        """Return a state of zero."""
        return jnp.zeros((input_shape[0], self.config.features), self.param_dtype)


def _g(candidate):
    return jnp.where(candidate >= 0, candidate + 0.5, jax.nn.sigmoid(candidate))
