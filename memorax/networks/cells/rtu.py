"""The recurrent trace unit: a complex diagonal recurrence in real numbers, with an activation.

With r = exp(-exp(nu_log)) and theta = exp(theta_log), one of each for every unit::

    h1' = f(r cos(theta) h1 - r sin(theta) h2 + sqrt(1 - r^2) W_1 x)
    h2' = f(r cos(theta) h2 + r sin(theta) h1 + sqrt(1 - r^2) W_2 x)
    y   = W_out [h1', h2'] + b_out

Without the activation f, h1 + i h2 decays by r and turns by theta at each step, as in the LRU.

Source: Elelimy et al. 2024, Real-Time Recurrent Learning using Trace Units in Reinforcement
Learning, arXiv 2409.01449; the initial values of Orvieto et al. 2023, arXiv 2303.06349.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from memorax.networks.initializers import check_ring, ring_nu_log, ring_theta_log
from memorax.validation import check_positive


@dataclass(frozen=True)
class RTUConfig:
    """Sizes and initialisation of an ``RTUCell``.

    Attributes:
        features: Width of the outputs; inputs may have any width.
        hidden_dim: Number of units; each holds a pair of numbers.
        activation: f. The hyperbolic tangent bounds the state and, unlike a rectifier, lets it
            turn through every sign; ``lambda x: x`` makes the linear recurrent trace unit.
        r_min: The smallest initial r. 0, with ``r_max`` 1, spreads over all time scales.
        r_max: The largest initial r.
        max_phase: The largest initial theta; a whole turn reaches every frequency.

    Raises:
        ValueError: If a field is out of its range.

    Examples:
        >>> config = RTUConfig(features=16, hidden_dim=32, activation=jax.nn.relu)
        >>> RTUConfig(features=16, hidden_dim=0)
        Traceback (most recent call last):
        ValueError: RTUConfig.hidden_dim must be an integer of at least 1, got 0
    """

    features: int
    hidden_dim: int
    activation: Callable[[Array], Array] = jnp.tanh
    r_min: float = 0.0
    r_max: float = 1.0
    max_phase: float = 2 * math.pi

    def __post_init__(self):
        """Check the fields."""
        check_positive("RTUConfig.features", self.features)
        check_positive("RTUConfig.hidden_dim", self.hidden_dim)
        if not callable(self.activation):
            raise ValueError(
                f"RTUConfig.activation must be a function of an array, got {self.activation!r}"
            )
        check_ring("RTUConfig", self.r_min, self.r_max, self.max_phase)


class RTUCell(nn.RNNCellBase):
    """One step of a layer of recurrent trace units.

    The carry is ``(h1, h2)``, the real and the imaginary half. It is updated in its own precision;
    ``dtype`` is that of the matrix products.

    Attributes:
        config: Sizes and options.
        dtype: Dtype of the computation; ``None``: that of inputs and parameters.
        param_dtype: The parameters' dtype, and, if that is not below float32, the carry's.

    Examples:
        >>> torso = RNN(RTUCell(RTUConfig(features=16, hidden_dim=32)))
        >>> (carry, outputs), params = jax.eval_shape(torso.init_with_output, key, inputs)
        >>> [leaf.shape for leaf in jax.tree.leaves(carry)]
        [(2, 32), (2, 32)]
        >>> outputs.shape
        (2, 5, 16)
    """

    config: RTUConfig
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        carry: tuple[Float[Array, "*batch hidden_dim"], Float[Array, "*batch hidden_dim"]],
        inputs: Float[Array, "*batch features"],
    ) -> tuple[
        tuple[Float[Array, "*batch hidden_dim"], Float[Array, "*batch hidden_dim"]],
        Float[Array, "*batch features_out"],
    ]:
        """Read one input.

        Args:
            carry: The state before it.
            inputs: The input of each row.

        Returns:
            The state after it, and the outputs.
        """
        config, dtypes = self.config, {"dtype": self.dtype, "param_dtype": self.param_dtype}
        h1, h2 = carry
        shape = (config.hidden_dim,)
        nu_log = self.param(
            "nu_log", ring_nu_log(config.r_min, config.r_max), shape, self.param_dtype
        )
        theta_log = self.param(
            "theta_log", ring_theta_log(config.max_phase), shape, self.param_dtype
        )
        real, imaginary, normaliser = _decay(nu_log.astype(h1.dtype), theta_log.astype(h1.dtype))

        # W_1 and W_2 side by side.
        project = nn.Dense(2 * config.hidden_dim, use_bias=False, name="input_projection", **dtypes)
        x1, x2 = jnp.split(project(inputs).astype(h1.dtype), 2, axis=-1)
        h1, h2 = self._turn(real, imaginary, carry, normaliser * x1, normaliser * x2)
        output = nn.Dense(config.features, name="output_projection", **dtypes)
        return (h1, h2), output(jnp.concatenate([h1, h2], axis=-1))

    @nn.nowrap
    def _turn(self, real, imaginary, carry, x1, x2):
        h1, h2 = carry
        return (
            self.config.activation(real * h1 - imaginary * h2 + x1),
            self.config.activation(real * h2 + imaginary * h1 + x2),
        )

    @nn.nowrap
    def unit_parameters(self, params: PyTree) -> tuple[Array, ...]:
        """Return what each unit's recurrence depends on, units last.

        They are r cos(theta), r sin(theta), sqrt(1 - r^2), and both W side by side.

        Args:
            params: The cell's parameters.
        """
        W = params["input_projection"]["kernel"]
        W = W.reshape(-1, 2, self.config.hidden_dim)
        return *_decay(params["nu_log"], params["theta_log"]), W

    @nn.nowrap
    def unit_step(
        self,
        parameters: tuple[Array, ...],
        state: tuple[Float[Array, " hidden_dim"], Float[Array, " hidden_dim"]],
        inputs: Float[Array, " features"],
    ) -> tuple[Float[Array, " hidden_dim"], Float[Array, " hidden_dim"]]:
        """Return the state after an input, as ``__call__`` does, for one row."""
        real, imaginary, normaliser, W = parameters
        x1, x2 = normaliser * jnp.tensordot(inputs, W, axes=1)
        return self._turn(real, imaginary, state, x1, x2)

    @nn.nowrap
    def initialize_carry(
        self, rng: Array, input_shape: tuple[int, ...]
    ) -> tuple[Float[Array, "*batch hidden_dim"], Float[Array, "*batch hidden_dim"]]:
        """Return the initial state, zeros."""
        dtype = jnp.promote_types(self.param_dtype, jnp.float32)
        zeros = jnp.zeros((*input_shape[:-1], self.config.hidden_dim), dtype)
        return zeros, zeros

    @property
    def num_feature_axes(self) -> int:
        """Number of axes of an input that are features."""
        return 1


def _decay(nu_log, theta_log):
    """Return r cos(theta), r sin(theta) and sqrt(1 - r^2)."""
    nu, theta = jnp.exp(nu_log), jnp.exp(theta_log)
    r = jnp.exp(-nu)
    # sqrt(1 - r^2), which does not round to 0 where r rounds to 1.
    return r * jnp.cos(theta), r * jnp.sin(theta), jnp.sqrt(-jnp.expm1(-2 * nu))
