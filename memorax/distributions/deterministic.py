"""One action for certain, with the interface of a distribution."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from memorax.distributions.distribution import Distribution


class Deterministic(Distribution):
    """The distribution that has all its probability on one vector.

    Gradients flow through samples to ``loc``. The log-probability is 0 there, minus infinity
    elsewhere.

    Args:
        loc: The vectors.

    Examples:
        >>> head = heads.Deterministic(action_dim=3)
        >>> policy, params = head.init_with_output(key, inputs)
        >>> bool((policy.sample(seed=key) == policy.mode()).all())
        True
    """

    fields = ("loc",)

    def __init__(self, loc: Float[Array, "*axes actions"]):
        self.loc = loc

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of an action."""
        return self.loc.shape[-1:]

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The shape of what there is a distribution for."""
        return self.loc.shape[:-1]

    def log_prob(self, value: Float[Array, "*axes actions"]) -> Float[Array, "*axes"]:
        """Return 0 where a vector is the one, else minus infinity."""
        same = jnp.all(value == self.loc, axis=-1)
        return jnp.where(same, 0.0, -jnp.inf).astype(self.loc.dtype)

    def mode(self) -> Float[Array, "*axes actions"]:
        """Return the vectors."""
        return self.loc

    def _sample(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        return jnp.broadcast_to(self.loc, sample_shape + self.loc.shape)
