"""A distribution over finitely many categories."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Real

from memorax.distributions.distribution import Distribution, check_kind


class Categorical(Distribution):
    """A distribution over the categories 0, 1, ..., n - 1.

    Args:
        logits: The unnormalised logarithms of the probabilities; normalised, they become the
            attribute ``logits``.
        probs: The unnormalised probabilities, instead of ``logits``.

    Raises:
        ValueError: If both ``logits`` and ``probs`` are given, or none.
    """

    fields = ("logits",)

    logits: Float[Array, "*batch categories"]

    def __init__(
        self,
        logits: Float[Array, "*batch categories"] | None = None,
        probs: Float[Array, "*batch categories"] | None = None,
    ):
        if logits is not None and probs is None:
            self.logits = jax.nn.log_softmax(logits)
        elif probs is not None and logits is None:
            self.logits = jnp.log(probs / probs.sum(axis=-1, keepdims=True))
        else:
            given = "none" if logits is None else "both"
            raise ValueError(f"Categorical must have either logits or probs, got {given}")

    @property
    def probs(self) -> Float[Array, "*batch categories"]:
        """The probabilities of the categories."""
        return jax.nn.softmax(self.logits)

    @property
    def num_categories(self) -> int:
        """How many categories there are."""
        return self.logits.shape[-1]

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The shape of what there is a distribution for."""
        return self.logits.shape[:-1]

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of a category, ``()``."""
        return ()

    def log_prob(self, value: Real[Array, "*axes"]) -> Float[Array, "..."]:
        """Return the log-probability of categories, minus infinity for invalid ones."""
        chosen = value[..., None] == jnp.arange(self.num_categories)
        # Not a product, for 0 times a logit of minus infinity is NaN.
        log_prob = jnp.where(chosen, self.logits, 0).sum(axis=-1)
        return jnp.where(chosen.any(axis=-1), log_prob, -jnp.inf)

    def mode(self) -> Int[Array, "*batch"]:
        """Return the most likely category, the first of equals."""
        return jnp.argmax(self.logits, axis=-1)

    def entropy(self) -> Float[Array, "*batch"]:
        """Return the entropy in nats, ``- sum p log p`` with ``0 log 0 = 0``."""
        return -self._expected(self.logits)

    def kl_divergence(self, other: "Categorical") -> Float[Array, "*batch"]:
        """Return ``sum p (log p - log q)`` with q the probabilities of the other."""
        check_kind(self, other, Categorical)
        if self.num_categories != other.num_categories:
            raise ValueError(
                "Categorical.kl_divergence: other must have as many categories, got "
                f"{self.num_categories} and {other.num_categories}"
            )
        return self._expected(self.logits - other.logits)

    def _expected(self, values: Array) -> Array:
        probs = jnp.exp(self.logits)
        return (probs * jnp.where(probs > 0, values, 0)).sum(axis=-1)

    def _sample(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        shape = sample_shape + self.batch_shape
        drawn = jax.random.categorical(key, self.logits, shape=shape)
        # NaN must not pass for a category.
        return jnp.where(jnp.isnan(self.logits).any(axis=-1), -1, drawn)


class EpsilonGreedy(Categorical):
    """The most preferred category, or with probability ``epsilon`` a uniformly random one.

    Equally preferred ones share the probability.

    Args:
        preferences: How much each category is preferred, such as action values.
        epsilon: The share of uniform draws, from 0 to 1.
    """

    fields = ("logits", "preferences", "epsilon")

    preferences: Float[Array, "*batch categories"]
    epsilon: Float[Array, ""] | float

    def __init__(
        self, preferences: Float[Array, "*batch categories"], epsilon: Float[Array, ""] | float
    ):
        best = preferences == preferences.max(axis=-1, keepdims=True)
        greedy = best / best.sum(axis=-1, keepdims=True)
        uniform = jnp.ones_like(greedy) / preferences.shape[-1]
        super().__init__(probs=(1 - epsilon) * greedy + epsilon * uniform)
        self.preferences = preferences
        self.epsilon = epsilon
