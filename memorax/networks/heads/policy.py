"""Heads that say how to act."""

import distrax
import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Initializer
from jaxtyping import Array, Float

from memorax.validation import check_positive


class Categorical(nn.Module):
    """A distribution over discrete actions.

    Attributes:
        action_dim: How many actions there are.
        kernel_init: Orthogonal with scale 0.01 by default, so that the first policy is nearly
            uniform (Andrychowicz et al. 2020, arXiv 2006.05990, section 3.2).
        bias_init: Initializer of the bias.

    Raises:
        ValueError: At construction, if ``action_dim`` is not positive.
    """

    action_dim: int
    kernel_init: Initializer = nn.initializers.orthogonal(0.01)
    bias_init: Initializer = nn.initializers.zeros_init()

    def __post_init__(self):
        """Check the fields."""
        check_positive("Categorical.action_dim", self.action_dim)
        super().__post_init__()

    @nn.compact
    def __call__(self, features: Float[Array, "batch time features"]) -> distrax.Categorical:
        """Return the distribution at every step, of batch shape ``(batch, time)``."""
        logits = nn.Dense(
            self.action_dim, kernel_init=self.kernel_init, bias_init=self.bias_init, name="logits"
        )(features)
        return distrax.Categorical(logits=logits)


class Gaussian(nn.Module):
    """A normal distribution over continuous actions, its scale one parameter per dimension.

    Attributes:
        action_dim: How many dimensions an action has.
        kernel_init: Orthogonal with scale 0.01 by default, so that the first means are near zero
            (Andrychowicz et al. 2020, arXiv 2006.05990, section 3.2).
        bias_init: Initializer of the mean's bias.
        log_scale_init: Initializer of the logarithm of the standard deviation; zero by default,
            a standard deviation of 1.

    Raises:
        ValueError: At construction, if ``action_dim`` is not positive.
    """

    action_dim: int
    kernel_init: Initializer = nn.initializers.orthogonal(0.01)
    bias_init: Initializer = nn.initializers.zeros_init()
    log_scale_init: Initializer = nn.initializers.zeros_init()

    def __post_init__(self):
        """Check the fields."""
        check_positive("Gaussian.action_dim", self.action_dim)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, features: Float[Array, "batch time features"]
    ) -> distrax.MultivariateNormalDiag:
        """Return the distribution at every step, of batch shape ``(batch, time)``."""
        mean = nn.Dense(
            self.action_dim, kernel_init=self.kernel_init, bias_init=self.bias_init, name="mean"
        )(features)
        log_scale = self.param("log_scale", self.log_scale_init, (self.action_dim,))
        scale = jnp.broadcast_to(jnp.exp(log_scale).astype(mean.dtype), mean.shape)
        return distrax.MultivariateNormalDiag(loc=mean, scale_diag=scale)
