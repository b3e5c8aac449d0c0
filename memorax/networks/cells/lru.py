"""Linear recurrent unit.

With x the projected input, N complex states, and all of it elementwise but for B, C::

    lambda = exp(-exp(nu_log) + i exp(theta_log))
    h' = lambda h + exp(gamma_log) B x
    y  = Re(C h') + D x

Source: Orvieto et al. 2023, "Resurrecting Recurrent Neural Networks for Long Sequences",
arXiv 2303.06349, sections 3.2 to 3.4 and appendix A.
"""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from memorax.networks.initializers import check_ring, ring_nu_log, ring_theta_log
from memorax.networks.layers import (
    complex_unit_step,
    complex_units,
    linear,
    run_complex_states,
)
from memorax.networks.sequence_models.base import Carry
from memorax.networks.sequence_models.memoroid import MemoroidCell
from memorax.ops.implementation import Implementation
from memorax.validation import check_positive


@dataclass(frozen=True)
class LRUConfig:
    """Sizes and initialisation of an ``LRUCell``.

    Attributes:
        features: Width of the outputs.
        hidden_dim: Number of complex states.
        r_min: Smallest modulus of lambda at first; the paper's 0 for short tasks, up to 0.99
            for long ones.
        r_max: Largest modulus of lambda at first, below 1. 0.99, unlike the paper's 1, begins
            with memories of about a hundred steps.
        max_phase: Largest phase of lambda at first, in radians; the full circle.

    Raises:
        ValueError: If a field is out of its range.

    Examples:
        >>> config = LRUConfig(features=16, hidden_dim=32, r_min=0.9, r_max=0.999)
        >>> LRUConfig(features=16, hidden_dim=0)
        Traceback (most recent call last):
        ValueError: LRUConfig.hidden_dim must be an integer of at least 1, got 0
    """

    features: int
    hidden_dim: int
    r_min: float = 0.0
    r_max: float = 0.99
    max_phase: float = 6.28

    def __post_init__(self):
        """Check the fields."""
        check_positive("LRUConfig.features", self.features)
        check_positive("LRUConfig.hidden_dim", self.hidden_dim)
        check_ring("LRUConfig", self.r_min, self.r_max, self.max_phase)


class LRUCell(MemoroidCell):
    """A linear recurrent unit, to be run by ``Memoroid``.

    The layer of the paper around it (norm, GELU, GLU, residual) is left to blocks. An input
    projection without bias maps any input to ``features``. The carry is the pair (real,
    imaginary) of the states.

    Attributes:
        config: Sizes and initialisation.
        dtype: Of the products; ``None``: of inputs and parameters. The recurrence is computed in
            ``param_dtype``.
        param_dtype: Of parameters and carry.

    Examples:
        >>> torso = Memoroid(LRUCell(LRUConfig(features=16, hidden_dim=32)))
        >>> (carry, outputs), params = jax.eval_shape(torso.init_with_output, key, inputs)
        >>> [leaf.shape for leaf in jax.tree.leaves(carry)]
        [(2, 32), (2, 32)]
        >>> outputs.shape
        (2, 5, 16)
    """

    config: LRUConfig
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
        features, states = self.config.features, self.config.hidden_dim
        x = linear(self, features, "input_projection")(inputs)
        radii = ring_nu_log(self.config.r_min, self.config.r_max)
        phases = ring_theta_log(self.config.max_phase)
        nu_log = self.param("nu_log", radii, (states,), self.param_dtype)
        theta_log = self.param("theta_log", phases, (states,), self.param_dtype)
        gamma_log = self.param(
            "gamma_log",
            # Keeps the states' variance at 1 for white noise; learned freely afterwards.
            lambda _: 0.5 * jnp.log(-jnp.expm1(-2 * jnp.exp(nu_log))),
        )
        normal = nn.initializers.normal
        to_states, to_outputs = normal((2 * features) ** -0.5), normal(states**-0.5)
        # The real and the imaginary part.
        B = self.param("B", to_states, (2, features, states), self.param_dtype)
        C = self.param("C", to_outputs, (2, states, features), self.param_dtype)
        D = self.param("D", normal(1.0), (features,), self.param_dtype)

        decay = jax.lax.complex(*_decay(nu_log, theta_log))
        B = jnp.concatenate(list(B * jnp.exp(gamma_log)), axis=1)
        C = jnp.concatenate([C[0], -C[1]])
        return run_complex_states(
            x, decay, B, C, D, done, carry, implementation, chunk_size, self.dtype
        )

    @nn.nowrap
    def unit_parameters(self, params: PyTree) -> tuple[Array, ...]:
        """Return what each state's recurrence depends on, see ``complex_units``."""
        decay = _decay(params["nu_log"], params["theta_log"])
        B = params["B"] * jnp.exp(params["gamma_log"])
        return complex_units(params["input_projection"]["kernel"], decay, (B[0], B[1]))

    @nn.nowrap
    def unit_step(
        self, parameters: tuple[Array, ...], state: Carry, inputs: Float[Array, " features"]
    ) -> Carry:
        """Return the state after an input, as ``__call__`` does, for one row."""
        return complex_unit_step(parameters, state, inputs)

    @nn.nowrap
    def initialize_carry(self, key: Array, input_shape: tuple[int, ...]) -> Carry:
        """Return states of zero."""
        zeros = jnp.zeros((input_shape[0], self.config.hidden_dim), self.param_dtype)
        return zeros, zeros


def _decay(nu_log, theta_log):
    """Return the real and the imaginary part of lambda."""
    modulus, phase = jnp.exp(-jnp.exp(nu_log)), jnp.exp(theta_log)
    return modulus * jnp.cos(phase), modulus * jnp.sin(phase)
