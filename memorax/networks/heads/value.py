"""Heads of state values."""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.typing import Initializer
from jaxtyping import Array, Float

from memorax.networks.heads.base import (
    check_hidden_dims,
    half_squared_error,
    hidden_layers,
    linear_output,
)
from memorax.networks.heads.value_distribution import (
    ValueDistribution,
    check_support,
    cross_entropy,
    project,
    support,
)
from memorax.validation import check_between


class VNetwork(nn.Module):
    """The value of a state, one number.

    Attributes:
        kernel_init: Orthogonal with scale 1 by default, the published choice for PPO's critic.
        bias_init: Initializer of the bias.
        hidden_dims: Units of the hidden layers that the head has itself, each with a ReLU.
        hidden_kernel_init: Of the hidden layers; orthogonal with the gain of a ReLU by default.
        dtype: Of the product; ``None``: of inputs and parameters.
        param_dtype: Of parameters, and at least of values.

    Raises:
        ValueError: At construction, if a size is not positive.

    Examples:
        >>> head = heads.VNetwork(hidden_dims=(16,))
        >>> output, params = jax.eval_shape(head.init_with_output, key, inputs)
        >>> output.shape
        (2, 5)
    """

    kernel_init: Initializer = nn.initializers.orthogonal(1.0)
    bias_init: Initializer = nn.initializers.zeros_init()
    hidden_dims: tuple[int, ...] = ()
    hidden_kernel_init: Initializer = nn.initializers.orthogonal(np.sqrt(2))
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        """Check the fields."""
        check_hidden_dims("VNetwork.hidden_dims", self.hidden_dims)
        super().__post_init__()

    @nn.compact
    def __call__(self, features: Float[Array, "batch time features"]) -> Float[Array, "batch time"]:
        """Return the value at every step."""
        features = hidden_layers(self, features, "value")
        return linear_output(self, features, 1, "value")[..., 0]

    @nn.nowrap
    def loss(
        self, output: Float[Array, "batch time"], target: Float[Array, "batch time"]
    ) -> Float[Array, "batch time"]:
        """Return half the squared error at every step."""
        return half_squared_error(output, target)


class HLGaussVNetwork(nn.Module):
    """The value of a state as a distribution over bins, learned by classification.

    A target y becomes a histogram over the bins, whose centres are the atoms. Two-hot, the
    default, splits it between the two nearest centres, so that the mean is y. Smoothed, each bin
    gets the mass that a normal distribution around y has between the bin's edges::

        p_i = (F(e_{i+1}) - F(e_i)) / (F(e_last) - F(e_0)),    F the normal distribution function
                                                               of mean y, deviation sigma

    which generalises better, but moves the mean of targets near the support's ends inwards.
    Targets outside ``v_min`` to ``v_max`` count as the nearest end, which is what both definitions
    say: choose them to hold all returns.

    Attributes:
        num_bins: Number of bins.
        v_min: The least value.
        v_max: The largest value.
        smoothing: Standard deviation sigma in widths of a bin; 0.75 is the paper's. ``None``:
            two-hot.
        bounds: Which part of the outermost bins ``v_min`` and ``v_max`` are: their ``"centres"``,
            so that both values can be represented exactly, or as in the paper's listing their outer
            ``"edges"``, so that the extreme values are half a bin inside.
        kernel_init: Orthogonal with scale 0.01 by default, so that the first distribution is nearly
            uniform and its mean in the middle of the support.
        bias_init: Initializer of the bias.
        hidden_dims: Units of the hidden layers that the head has itself, each with a ReLU.
        hidden_kernel_init: Of the hidden layers; orthogonal with the gain of a ReLU by default.
        dtype: Of the product; ``None``: of inputs and parameters.
        param_dtype: Of parameters, and at least of logits.

    Raises:
        ValueError: At construction, if there are fewer than two bins, ``v_min >= v_max``,
            ``smoothing`` is not positive or ``bounds`` is unknown.

    Source: Farebrother et al. 2024, "Stop Regressing", arXiv 2403.03950, section 3 and appendix A;
    two-hot from Schrittwieser et al. 2020, arXiv 1911.08265, appendix F.

    Examples:
        >>> head = heads.HLGaussVNetwork(num_bins=51, v_min=-1.0, v_max=1.0)
        >>> output, params = jax.eval_shape(head.init_with_output, key, inputs)
        >>> output.logits.shape
        (2, 5, 51)
    """

    num_bins: int = 101
    v_min: float = -10.0
    v_max: float = 10.0
    smoothing: float | None = None
    bounds: Literal["centres", "edges"] = "centres"
    kernel_init: Initializer = nn.initializers.orthogonal(0.01)
    bias_init: Initializer = nn.initializers.zeros_init()
    hidden_dims: tuple[int, ...] = ()
    hidden_kernel_init: Initializer = nn.initializers.orthogonal(np.sqrt(2))
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        """Check the fields."""
        check_support("HLGaussVNetwork", "num_bins", self.num_bins, self.v_min, self.v_max)
        check_hidden_dims("HLGaussVNetwork.hidden_dims", self.hidden_dims)
        if self.smoothing is not None:
            # Much narrower ones are two-hot's business, and would divide by zero.
            check_between("HLGaussVNetwork.smoothing", self.smoothing, 1e-3, float(self.num_bins))
        if self.bounds not in ("centres", "edges"):
            raise ValueError(
                f'HLGaussVNetwork.bounds must be "centres" or "edges", got {self.bounds!r}'
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, features: Float[Array, "batch time features"]) -> ValueDistribution:
        """Return the distribution at every step, its logits of shape ``(batch, time, atoms)``."""
        features = hidden_layers(self, features, "value")
        logits = linear_output(self, features, self.num_bins, "logits")
        return ValueDistribution(logits, *self._outer_centres)

    @nn.nowrap
    def histogram(self, target: Float[Array, "*axes"]) -> Float[Array, "*axes atoms"]:
        """Return the probabilities of the atoms that represent target values."""
        target = target.astype(jnp.promote_types(target.dtype, self.param_dtype))
        target = jnp.clip(target, self.v_min, self.v_max)[..., None]
        if self.smoothing is None:
            centres = support(*self._outer_centres, self.num_bins, target.dtype)
            return project(target, jnp.ones_like(target), centres)
        half = self._bin_width / 2
        first, last = self._outer_centres
        edges = support(first - half, last + half, self.num_bins + 1, target.dtype)
        sigma = self.smoothing * self._bin_width
        cumulative = jax.scipy.stats.norm.cdf(edges, loc=target, scale=sigma)
        return jnp.diff(cumulative) / (cumulative[..., -1:] - cumulative[..., :1])

    @nn.nowrap
    def loss(
        self, output: ValueDistribution, target: Float[Array, "batch time"]
    ) -> Float[Array, "batch time"]:
        """Return the cross-entropy from the targets' histograms at every step."""
        return cross_entropy(output, self.histogram(target))

    @property
    def _bin_width(self):
        gaps = self.num_bins - 1 if self.bounds == "centres" else self.num_bins
        return (self.v_max - self.v_min) / gaps

    @property
    def _outer_centres(self):
        inside = 0.0 if self.bounds == "centres" else self._bin_width / 2
        return float(self.v_min + inside), float(self.v_max - inside)
