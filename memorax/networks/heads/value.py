"""Heads that say how good a state is."""

import flax.linen as nn
import jax.numpy as jnp
import rlax
from flax.typing import Initializer
from jaxtyping import Array, Float


class VNetwork(nn.Module):
    """The value of a state, one number.

    Attributes:
        kernel_init: Orthogonal with scale 1 by default, the published choice for PPO's critic.
        bias_init: Initializer of the bias.
    """

    kernel_init: Initializer = nn.initializers.orthogonal(1.0)
    bias_init: Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, features: Float[Array, "batch time features"]) -> Float[Array, "batch time"]:
        """Return the value at every step."""
        dense = nn.Dense(1, kernel_init=self.kernel_init, bias_init=self.bias_init, name="value")
        return dense(features)[..., 0]

    @nn.nowrap
    def loss(
        self, output: Float[Array, "batch time"], target: Float[Array, "batch time"]
    ) -> Float[Array, "batch time"]:
        """Return half the squared error at every step."""
        return jnp.asarray(rlax.l2_loss(output, target))
