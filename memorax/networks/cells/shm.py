"""The Stable Hadamard Memory: a matrix whose entries are each strengthened or weakened.

With u = layernorm(x), H = ``hidden_dim`` and theta of L = ``num_calibrations`` rows::

    k = relu(W_k u) / (1e-5 + sum)      v   = W_v u         c = W_c u
    q = relu(W_q u) / (1e-5 + sum)      eta = sigmoid(W_eta u)

    C[i, j]  = 1 + tanh(theta[l, i] c[j])
    M'[i, j] = clip(M[i, j] C[i, j] + eta v[i] k[j], -max_memory, max_memory)
    y        = W_out (M' q) + b_out

The row l is drawn uniformly, so that products of calibrations C do not grow on average.

Source: Le et al. 2024, Stable Hadamard Memory, arXiv 2410.10132.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from memorax.validation import check_positive

NORMALISER_EPSILON = 1e-5
MAX_MEMORY_GRADIENT = 1e6


@dataclass(frozen=True)
class SHMConfig:
    """Sizes of an ``SHMCell``.

    Attributes:
        features: Width of the outputs.
        hidden_dim: H, the side of the square memory.
        num_calibrations: L, the number of rows of theta; 128 in the paper.
        max_memory: The largest magnitude of an entry of the memory. Calibrations are at most 2 and
            only their expectation over rows is 1, so that some entries grow exponentially; the
            equations of the paper (``None``) overflow. 100 is the bound in the authors' code for
            partially observable tasks. Under the bound the gradient of the memory, which grows
            by the same product, is held within 1e6 an entry at each step.

    Raises:
        ValueError: If a field is out of its range.

    Examples:
        >>> config = SHMConfig(features=16, hidden_dim=8, num_calibrations=32)
        >>> SHMConfig(features=16, hidden_dim=8, max_memory=0)
        Traceback (most recent call last):
        ValueError: SHMConfig.max_memory must be None or a finite number above 0, got 0
    """

    features: int
    hidden_dim: int
    num_calibrations: int = 128
    max_memory: float | None = 100.0

    def __post_init__(self):
        """Check the fields."""
        check_positive("SHMConfig.features", self.features)
        check_positive("SHMConfig.hidden_dim", self.hidden_dim)
        check_positive("SHMConfig.num_calibrations", self.num_calibrations)
        bound = self.max_memory
        number = isinstance(bound, int | float) and not isinstance(bound, bool)
        if bound is not None and not (number and 0 < bound < float("inf")):
            raise ValueError(
                f"SHMConfig.max_memory must be None or a finite number above 0, got {bound!r}"
            )


class SHMCell(nn.RNNCellBase):
    """One step of a Stable Hadamard Memory.

    With a ``"dropout"`` key, a row of theta is drawn for every item and step, as in the paper.
    Without one the step is deterministic and takes row 0, as the authors' released code does
    throughout. The carry is M, values along its rows and keys along its columns. It is updated in
    its own precision; ``dtype`` is that of the matrix products.

    With ``max_memory``, derivatives are reverse-mode only.

    Attributes:
        config: Sizes and options.
        dtype: Dtype of the computation; ``None``: that of inputs and parameters.
        param_dtype: The parameters' dtype, and, if that is not below float32, the carry's.

    Examples:
        >>> torso = RNN(SHMCell(SHMConfig(features=16, hidden_dim=8)))
        >>> (carry, outputs), params = jax.eval_shape(torso.init_with_output, key, inputs)
        >>> [leaf.shape for leaf in jax.tree.leaves(carry)]
        [(2, 8, 8)]
        >>> outputs.shape
        (2, 5, 16)
    """

    config: SHMConfig
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __call__(
        self,
        carry: Float[Array, "*batch H H"],
        inputs: Float[Array, "*batch features"],
    ) -> tuple[Float[Array, "*batch H H"], Float[Array, "*batch features_out"]]:
        """Read one input.

        Args:
            carry: The memory before it.
            inputs: The input of each row.

        Returns:
            The memory after it, and the outputs.
        """
        return self.step(carry, inputs, self.choose_rows(inputs))

    def choose_rows(self, inputs: Float[Array, "*batch features"]) -> Int[Array, "*batch"]:
        """Return which row of theta calibrates each item's memory at this step."""
        if self.has_rng("dropout"):
            key = self.make_rng("dropout")
            return jax.random.randint(key, inputs.shape[:-1], 0, self.config.num_calibrations)
        return jnp.zeros(inputs.shape[:-1], int)

    @nn.compact
    def step(
        self,
        carry: Float[Array, "*batch H H"],
        inputs: Float[Array, "*batch features"],
        rows: Int[Array, "*batch"],
    ) -> tuple[Float[Array, "*batch H H"], Float[Array, "*batch features_out"]]:
        """Read one input, the memory calibrated by the given rows of theta.

        Args:
            carry: The memory before it.
            inputs: The input of each row of the batch.
            rows: l, for each row of the batch.

        Returns:
            The memory after it, and the outputs.
        """
        config, dtypes = self.config, {"dtype": self.dtype, "param_dtype": self.param_dtype}
        if inputs.shape[-1] == 1:
            raise ValueError("SHMCell needs inputs of at least 2 features: the norm of one is 0")
        u = nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, name="norm", **dtypes)(inputs)

        def project(name, features):
            dense = nn.Dense(
                features, use_bias=False, kernel_init=_kernel_init, name=name, **dtypes
            )
            return dense(u).astype(carry.dtype)

        k = _normalise(nn.relu(project("key", config.hidden_dim)))
        q = _normalise(nn.relu(project("query", config.hidden_dim)))
        v = project("value", config.hidden_dim)
        c = project("calibration", config.hidden_dim)
        eta = nn.sigmoid(project("update_gate", 1))
        theta = self.param(
            "theta",
            nn.initializers.xavier_uniform(),
            (config.num_calibrations, config.hidden_dim),
            self.param_dtype,
        )

        memory = _update(carry, theta[rows].astype(carry.dtype), c, eta * v, k, config.max_memory)
        read = jnp.einsum("...ij,...j->...i", memory, q)
        output = nn.Dense(
            config.features, kernel_init=_kernel_init, name="output_projection", **dtypes
        )
        return memory, output(read)

    @nn.nowrap
    def initialize_carry(
        self, rng: Array, input_shape: tuple[int, ...]
    ) -> Float[Array, "*batch H H"]:
        """Return the initial memory, zeros."""
        dtype = jnp.promote_types(self.param_dtype, jnp.float32)
        return jnp.zeros((*input_shape[:-1], self.config.hidden_dim, self.config.hidden_dim), dtype)

    @property
    def num_feature_axes(self) -> int:
        """Number of axes of an input that are features."""
        return 1


# Between -1 / sqrt(fan_in) and 1 / sqrt(fan_in), as PyTorch draws the authors'. A larger c would
# calibrate further from 1, and the memory fade or grow faster.
_kernel_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


# What the backward pass needs of each step's matrices is computed again, not kept: measured at a
# side of 64, that takes 0.55 of the time and 0.4 of the memory.
@partial(jax.checkpoint, prevent_cse=False, static_argnums=(5,))
def _update(memory, theta, c, value, k, max_memory):
    """Return M': the memory calibrated by C = 1 + tanh(theta c), with the value written."""
    memory = memory + memory * jnp.tanh(_outer(theta, c)) + _outer(value, k)
    if max_memory is not None:
        memory = _bound_gradient(jnp.clip(memory, -max_memory, max_memory))
    return memory


def _normalise(vectors):
    return vectors / (NORMALISER_EPSILON + vectors.sum(-1, keepdims=True))


def _outer(rows, columns):
    return rows[..., :, None] * columns[..., None, :]


@jax.custom_vjp
def _bound_gradient(memory):
    """Return the memory unchanged and clip its gradient.

    An entry that stays at zero, as where its key is, never meets its bound, but its gradient is
    multiplied by every calibration all the same.
    """
    return memory


_bound_gradient.defvjp(
    lambda memory: (memory, None),
    lambda _, gradient: (jnp.clip(gradient, -MAX_MEMORY_GRADIENT, MAX_MEMORY_GRADIENT),),
)
