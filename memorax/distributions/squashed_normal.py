"""A normal distribution squashed into an interval."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from memorax.distributions.distribution import Distribution


class SquashedNormal(Distribution):
    """The distribution of low + (high - low) (tanh(u) + 1) / 2 with u normal in each dimension.

    By the change of variables, with a the action and d its dimensions::

        log p(a) = sum_d [log N(u) - 2 (log 2 - u - softplus(-2 u)) - log((high - low) / 2)]

    An action near a bound no longer tells u: in float32 all u above 9 give the same. Hence the
    log-probability is exact where u is known, in ``sample_and_log_prob`` and
    ``log_prob_of_latent``, and ``log_prob`` is as exact as the action is.

    Samples are reparametrised: gradients flow through them to ``loc`` and ``scale``. The entropy
    has no closed form.

    Args:
        loc: The mean of u.
        scale: The standard deviation of u.
        low: The least action, in each dimension.
        high: The largest action, in each dimension.

    Source: Haarnoja et al. 2018, arXiv 1801.01290, appendix C.

    Examples:
        >>> low, high = jnp.full(3, -2.0), jnp.full(3, 2.0)
        >>> policy = heads.SquashedNormal(jnp.zeros(3), jnp.ones(3), low, high)
        >>> action, log_prob = policy.sample_and_log_prob(seed=key)
        >>> policy.mode().tolist()
        [0.0, 0.0, 0.0]
    """

    fields = ("loc", "scale", "_centre", "_reach")

    def __init__(
        self,
        loc: Float[Array, "*axes actions"],
        scale: Float[Array, "*axes actions"],
        low: Float[Array, " actions"],
        high: Float[Array, " actions"],
    ):
        self.loc = loc
        self.scale = scale
        self._centre = (low + high) / 2
        self._reach = (high - low) / 2

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of an action."""
        return self.loc.shape[-1:]

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The shape of what there is a distribution for."""
        return self.loc.shape[:-1]

    def log_prob(self, value: Float[Array, "*axes actions"]) -> Float[Array, "*axes"]:
        """Return the log-density of actions, finite at the bounds too.

        Where an action is at a bound, or beyond it as rounding may leave one, u is taken to be the
        furthest that any action inside tells.
        """
        squashed = (value - self._centre) / self._reach
        limit = 1 - jnp.finfo(squashed.dtype).epsneg
        return self.log_prob_of_latent(jnp.arctanh(jnp.clip(squashed, -limit, limit)))

    def log_prob_of_latent(self, latent: Float[Array, "*axes actions"]) -> Float[Array, "*axes"]:
        """Return the log-density of the actions that values u before squashing become."""
        normal = jax.scipy.stats.norm.logpdf(latent, self.loc, self.scale)
        slope = 2 * (jnp.log(2) - latent - jax.nn.softplus(-2 * latent))
        return (normal - slope - jnp.log(self._reach)).sum(axis=-1)

    def squash(self, latent: Float[Array, "*axes actions"]) -> Float[Array, "*axes actions"]:
        """Return the actions that values u become."""
        return self._centre + self._reach * jnp.tanh(latent)

    def mode(self) -> Float[Array, "*axes actions"]:
        """Return what the most likely u becomes, the median action of each dimension.

        The density itself has its peaks at the bounds when the scale is large, where nobody who
        asks for a deterministic policy wants to go.
        """
        return self.squash(self.loc)

    def _sample_latent(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        noise = jax.random.normal(key, sample_shape + self.loc.shape, self.loc.dtype)
        return self.loc + self.scale * noise

    def _sample(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        return self.squash(self._sample_latent(key, sample_shape))

    def _sample_and_log_prob(
        self, key: Array, sample_shape: tuple[int, ...]
    ) -> tuple[Array, Array]:
        latent = self._sample_latent(key, sample_shape)
        return self.squash(latent), self.log_prob_of_latent(latent)
