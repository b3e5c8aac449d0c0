"""Independent draws as one."""

from jaxtyping import Array, Float, Shaped

from memorax.distributions.distribution import Distribution, check_kind
from memorax.validation import check_integer


class Independent(Distribution):
    """The last axes of a batch of distributions as one event, such as the dimensions of an action.

    Args:
        distribution: The distributions.
        reinterpreted_batch_ndims: How many of the last axes of its batch become the event's.

    Raises:
        ValueError: If the batch has not so many axes.
    """

    fields = ("distribution",)
    static_fields = ("reinterpreted_batch_ndims",)

    distribution: Distribution
    reinterpreted_batch_ndims: int

    def __init__(self, distribution: Distribution, reinterpreted_batch_ndims: int = 1):
        check_integer(
            "Independent.reinterpreted_batch_ndims",
            reinterpreted_batch_ndims,
            0,
            len(distribution.batch_shape),
        )
        self.distribution = distribution
        self.reinterpreted_batch_ndims = reinterpreted_batch_ndims

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The shape of what there is a distribution for."""
        shape = self.distribution.batch_shape
        return shape[: len(shape) - self.reinterpreted_batch_ndims]

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one draw."""
        shape = self.distribution.batch_shape
        return shape[len(self.batch_shape) :] + self.distribution.event_shape

    def log_prob(self, value: Shaped[Array, "..."]) -> Float[Array, "..."]:
        """Return the sum of the log-probabilities over the axes of the event."""
        return self._sum(self.distribution.log_prob(value))

    def mean(self) -> Float[Array, "..."]:
        """Return the expected value of each."""
        return self.distribution.mean()

    def stddev(self) -> Float[Array, "..."]:
        """Return the standard deviation of each."""
        return self.distribution.stddev()

    def mode(self) -> Shaped[Array, "..."]:
        """Return the most likely value of each."""
        return self.distribution.mode()

    def entropy(self) -> Float[Array, "..."]:
        """Return the sum of the entropies over the axes of the event."""
        return self._sum(self.distribution.entropy())

    def kl_divergence(self, other: "Independent") -> Float[Array, "..."]:
        """Return the sum of the divergences over the axes of the event."""
        check_kind(self, other, Independent)
        if self.event_shape != other.event_shape:
            raise ValueError(
                "Independent.kl_divergence: other must have the same event shape, got "
                f"{self.event_shape} and {other.event_shape}"
            )
        return self._sum(self.distribution.kl_divergence(other.distribution))

    def _sum(self, values: Array) -> Array:
        return values.sum(axis=tuple(range(-self.reinterpreted_batch_ndims, 0)))

    def _sample(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        return self.distribution.sample(seed=key, sample_shape=sample_shape)

    def _sample_and_log_prob(
        self, key: Array, sample_shape: tuple[int, ...]
    ) -> tuple[Array, Array]:
        sample, log_prob = self.distribution.sample_and_log_prob(
            seed=key, sample_shape=sample_shape
        )
        return sample, self._sum(log_prob)
