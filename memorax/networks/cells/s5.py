"""Simplified structured state space (S5).

A linear system in continuous time, of P complex states with diagonal Lambda and a step size for
each state, D elementwise, with x the projected input::

    zoh:       A = exp(Lambda dt)                         B' = (A - 1) / Lambda B
    bilinear:  A = (1 + Lambda dt / 2) / (1 - Lambda dt / 2)   B' = dt / (1 - Lambda dt / 2) B
    h' = A h + B' x
    y  = Re(C h') + D x                (2 Re(C h') + D x with conjugate symmetry)

Source: Smith et al. 2023, "Simplified State Space Layers for Sequence Modeling", arXiv 2208.04933,
section 3 and appendix B; resets as in Lu et al. 2023, arXiv 2303.03982.
"""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float, PyTree

from memorax.networks.initializers import log_uniform
from memorax.networks.layers import (
    complex_unit_step,
    complex_units,
    linear,
    run_complex_states,
)
from memorax.networks.sequence_models.base import Carry
from memorax.networks.sequence_models.memoroid import MemoroidCell
from memorax.ops.implementation import Implementation
from memorax.validation import check_between, check_positive, unknown_name

DISCRETIZATIONS = ("zoh", "bilinear")

LARGEST_REAL_PART = -1e-4
"""Largest real part of Lambda: every state decays a little, so it stays finite in training."""


@dataclass(frozen=True)
class S5Config:
    """Sizes and initialisation of an ``S5Cell``.

    Attributes:
        features: Width of the outputs.
        hidden_dim: Number of states of the HiPPO matrix that the cell begins from.
        discretization: ``"zoh"`` (inputs held over a step, the authors' default) or ``"bilinear"``.
        conjugate_symmetry: Keep one state of each conjugate pair, as the authors do by default:
            half the states, the same outputs. Needs an even ``hidden_dim``.
        min_step: Shortest step size at first; with ``max_step``, memories from tens to thousands
            of steps.
        max_step: Longest step size at first.
        clip_eigenvalues: Hold the real part of Lambda below -1e-4. The authors leave it off by
            default; on, no learned parameters can make the memory diverge.

    Raises:
        ValueError: If a field is out of its range.

    Examples:
        >>> config = S5Config(features=16, hidden_dim=32, conjugate_symmetry=False)
        >>> S5Config(features=16, hidden_dim=31)
        Traceback (most recent call last):
        ValueError: S5Config.hidden_dim must be even with conjugate_symmetry, got hidden_dim=31
    """

    features: int
    hidden_dim: int
    discretization: str = "zoh"
    conjugate_symmetry: bool = True
    min_step: float = 0.001
    max_step: float = 0.1
    clip_eigenvalues: bool = True

    def __post_init__(self):
        """Check the fields."""
        check_positive("S5Config.features", self.features)
        check_positive("S5Config.hidden_dim", self.hidden_dim)
        if self.conjugate_symmetry and self.hidden_dim % 2:
            raise ValueError(
                "S5Config.hidden_dim must be even with conjugate_symmetry, got "
                f"hidden_dim={self.hidden_dim}"
            )
        if self.discretization not in DISCRETIZATIONS:
            what = unknown_name("discretization", self.discretization, DISCRETIZATIONS)
            raise ValueError(f"S5Config.discretization: {what}")
        check_between("S5Config.min_step", self.min_step, 1e-12)
        check_between("S5Config.max_step", self.max_step, self.min_step)


class S5Cell(MemoroidCell):
    """A simplified structured state space, to be run by ``Memoroid``.

    The layer of the paper around it (norm, GELU, GLU, residual) is left to blocks. An input
    projection without bias maps any input to ``features``. The carry is the pair (real,
    imaginary) of the states.

    Attributes:
        config: Sizes and initialisation.
        dtype: Of the products; ``None``: of inputs and parameters. The recurrence is computed in
            ``param_dtype``.
        param_dtype: Of parameters and carry.

    Examples:
        >>> torso = Memoroid(S5Cell(S5Config(features=16, hidden_dim=32)))
        >>> (carry, outputs), params = jax.eval_shape(torso.init_with_output, key, inputs)
        >>> [leaf.shape for leaf in jax.tree.leaves(carry)]
        [(2, 16), (2, 16)]
        >>> outputs.shape
        (2, 5, 16)
    """

    config: S5Config
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
        config, features, states = self.config, self.config.features, self._num_states()
        x = linear(self, features, "input_projection")(inputs)
        eigenvalues, eigenvectors = hippo_normal(config.hidden_dim)
        # The eigenvalues come in ascending order: the first half has the negative frequencies.
        eigenvalues, eigenvectors = eigenvalues[:states], eigenvectors[:, :states]

        def begins(values):
            return lambda _: jnp.asarray(values, self.param_dtype)

        Lambda_real = self.param("Lambda_real", begins(np.real(eigenvalues)))
        Lambda_imag = self.param("Lambda_imag", begins(np.imag(eigenvalues)))
        # The real and the imaginary part, one draw for both.
        B_real, B_imag = self.param("B", self._draw_B, eigenvectors)
        C_real, C_imag = self.param("C", self._draw_C, eigenvectors)
        D = self.param("D", nn.initializers.normal(1.0), (features,), self.param_dtype)
        steps = log_uniform(config.min_step, config.max_step)
        log_step = self.param("log_step", steps, (states,), self.param_dtype)

        A, B = self._discretized(Lambda_real, Lambda_imag, log_step, B_real, B_imag)
        B = jnp.concatenate(B, axis=1)
        C = jnp.concatenate([C_real, -C_imag]) * (2 if config.conjugate_symmetry else 1)
        return run_complex_states(
            x, A, B, C, D, done, carry, implementation, chunk_size, self.dtype
        )

    @nn.nowrap
    def _discretized(self, Lambda_real, Lambda_imag, log_step, B_real, B_imag):
        """Return the decay of a step, and the real and the imaginary part of B for it."""
        config = self.config
        if config.clip_eigenvalues:
            Lambda_real = jnp.minimum(Lambda_real, LARGEST_REAL_PART)
        A, scale = discretize(
            jax.lax.complex(Lambda_real, Lambda_imag), jnp.exp(log_step), config.discretization
        )
        return A, (
            B_real * scale.real - B_imag * scale.imag,
            B_real * scale.imag + B_imag * scale.real,
        )

    @nn.nowrap
    def unit_parameters(self, params: PyTree) -> tuple[Array, ...]:
        """Return what each state's recurrence depends on, see ``complex_units``."""
        names = ("Lambda_real", "Lambda_imag", "log_step")
        A, B = self._discretized(*(params[name] for name in names), *params["B"])
        return complex_units(params["input_projection"]["kernel"], (A.real, A.imag), B)

    @nn.nowrap
    def unit_step(
        self, parameters: tuple[Array, ...], state: Carry, inputs: Float[Array, " features"]
    ) -> Carry:
        """Return the state after an input, as ``__call__`` does, for one row."""
        return complex_unit_step(parameters, state, inputs)

    def _draw_B(self, key, eigenvectors):
        """Draw the input matrix of the whole system and see it from the eigenvectors."""
        size, features = self.config.hidden_dim, self.config.features
        # Of variance 1 / hidden_dim: in the authors' layout Flax's fan-in is the number of states.
        whole = nn.initializers.lecun_normal()(key, (size, features), self.param_dtype)
        seen = eigenvectors.conj()
        parts = [whole.T @ jnp.asarray(part, self.param_dtype) for part in (seen.real, seen.imag)]
        return jnp.stack(parts)

    def _draw_C(self, key, eigenvectors):
        """Draw a complex output matrix of the whole system and see it from the eigenvectors."""
        size, features = self.config.hidden_dim, self.config.features
        draw = nn.initializers.lecun_normal()
        keys = jax.random.split(key)
        real, imag = (draw(key, (size, features), self.param_dtype) for key in keys)
        V_real, V_imag = (
            jnp.asarray(part.T, self.param_dtype) for part in (eigenvectors.real, eigenvectors.imag)
        )
        return jnp.stack([V_real @ real - V_imag @ imag, V_real @ imag + V_imag @ real])

    def _num_states(self):
        return self.config.hidden_dim // (2 if self.config.conjugate_symmetry else 1)

    @nn.nowrap
    def initialize_carry(self, key: Array, input_shape: tuple[int, ...]) -> Carry:
        """Return states of zero."""
        zeros = jnp.zeros((input_shape[0], self._num_states()), self.param_dtype)
        return zeros, zeros


def discretize(
    Lambda: Complex[Array, " states"], step: Float[Array, " states"], discretization: str
) -> tuple[Complex[Array, " states"], Complex[Array, " states"]]:
    """Return the decay of a step and the factor by which B enters."""
    if discretization == "zoh":
        A = jnp.exp(Lambda * step)
        return A, (A - 1) / Lambda
    denominator = 1 - Lambda * step / 2
    return (1 + Lambda * step / 2) / denominator, step / denominator


def hippo_normal(
    size: int,
) -> tuple[Complex[np.ndarray, " size"], Complex[np.ndarray, "size size"]]:
    """Return the eigenvalues and eigenvectors of the normal part of the HiPPO-LegS matrix.

    Source: Gu et al. 2022, arXiv 2206.11893, the initialisation HiPPO-N.
    """
    n = np.arange(size)
    root = np.sqrt(2 * n + 1)
    legs = -np.tril(np.outer(root, root), -1) - np.diag(n + 1)
    low_rank = np.sqrt(n + 0.5)
    normal = legs + np.outer(low_rank, low_rank)
    frequencies, eigenvectors = np.linalg.eigh(-1j * (normal - np.diag(np.diag(normal))))
    return np.diag(normal).mean() + 1j * frequencies, eigenvectors
