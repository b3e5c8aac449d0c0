"""The normal distribution."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from memorax.distributions.distribution import Distribution, check_kind

HALF_LOG_2_PI = 0.5 * math.log(2 * math.pi)


class Normal(Distribution):
    """A normal distribution of every number; ``Independent`` makes vectors of them.

    Samples are reparametrised: gradients flow through them to ``loc`` and ``scale``.

    Args:
        loc: The mean.
        scale: The standard deviation, of a shape that broadcasts with that of ``loc``.
    """

    fields = ("loc", "scale")

    loc: Float[Array, "*#batch"]
    scale: Float[Array, "*#batch"]

    def __init__(self, loc: Float[Array, "*#batch"], scale: Float[Array, "*#batch"] | float):
        self.loc = loc
        self.scale = jnp.asarray(scale, jnp.result_type(loc, scale))

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The shape of what there is a distribution for."""
        return jnp.broadcast_shapes(self.loc.shape, self.scale.shape)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of a number, ``()``."""
        return ()

    def log_prob(self, value: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return the log-density of numbers."""
        standardized = (value - self.loc) / self.scale
        return -0.5 * jnp.square(standardized) - (HALF_LOG_2_PI + jnp.log(self.scale))

    def mean(self) -> Float[Array, "*batch"]:
        """Return the mean."""
        return jnp.broadcast_to(self.loc, self.batch_shape)

    def stddev(self) -> Float[Array, "*batch"]:
        """Return the standard deviation."""
        return jnp.broadcast_to(self.scale, self.batch_shape)

    def mode(self) -> Float[Array, "*batch"]:
        """Return the mean, which is the most likely number."""
        return self.mean()

    def entropy(self) -> Float[Array, "*batch"]:
        """Return the differential entropy in nats, ``1/2 + log(sqrt(2 pi) scale)``."""
        entropy = 0.5 + (HALF_LOG_2_PI + jnp.log(self.scale))
        return jnp.broadcast_to(entropy, self.batch_shape)

    def kl_divergence(self, other: "Normal") -> Float[Array, "*batch"]:
        """Return the divergence of the other, with r the ratio of the scales, this over the other.

        It is ``((loc - loc') / scale')^2 / 2 + (r^2 - 1) / 2 - log r``.
        """
        check_kind(self, other, Normal)
        log_ratio = jnp.log(self.scale) - jnp.log(other.scale)
        distance = (self.loc - other.loc) / other.scale
        return 0.5 * jnp.square(distance) + 0.5 * jnp.expm1(2 * log_ratio) - log_ratio

    def _noise(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        dtype = jnp.result_type(self.loc, self.scale)
        return jax.random.normal(key, sample_shape + self.batch_shape, dtype)

    def _sample(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        return self.scale * self._noise(key, sample_shape) + self.loc

    def _sample_and_log_prob(
        self, key: Array, sample_shape: tuple[int, ...]
    ) -> tuple[Array, Array]:
        noise = self._noise(key, sample_shape)
        log_prob = -0.5 * jnp.square(noise) - HALF_LOG_2_PI - jnp.log(self.scale)
        return self.scale * noise + self.loc, log_prob
