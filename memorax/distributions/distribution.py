"""What all distributions have in common."""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import jax
from jaxtyping import Array, Float, Key, Shaped


class Distribution:
    """The base class of distributions, pytrees whose fields are arrays, other pytrees or ``None``.

    The interface is that of distrax, and so are the numbers drawn from a key. A subclass names its
    ``fields``, those that are not arrays in ``static_fields``, and implements what raises
    ``NotImplementedError`` here.
    """

    fields: ClassVar[tuple[str, ...]] = ()
    static_fields: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls):
        """Register the subclass as a pytree."""
        jax.tree_util.register_pytree_with_keys(
            cls, Distribution._flatten_with_keys, cls._unflatten, Distribution._flatten
        )

    def _flatten(self) -> tuple[tuple, tuple]:
        children = tuple(getattr(self, field) for field in self.fields)
        return children, tuple(getattr(self, field) for field in self.static_fields)

    def _flatten_with_keys(self) -> tuple[tuple, tuple]:
        children, static = self._flatten()
        keys = map(jax.tree_util.GetAttrKey, self.fields)
        return tuple(zip(keys, children, strict=True)), static

    @classmethod
    def _unflatten(cls, static: tuple, children: Iterable[Any]) -> Any:
        # Without __init__: what JAX puts in place of arrays has no shape.
        distribution = object.__new__(cls)
        distribution.__dict__ |= dict(zip(cls.fields, children, strict=True))
        distribution.__dict__ |= dict(zip(cls.static_fields, static, strict=True))
        return distribution

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The shape of what there is a distribution for."""
        raise NotImplementedError(f"{type(self).__name__} must implement batch_shape")

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one draw from one of them."""
        raise NotImplementedError(f"{type(self).__name__} must implement event_shape")

    def sample(
        self, *, seed: int | Key[Array, ""] | Shaped[Array, "2"], sample_shape: Any = ()
    ) -> Shaped[Array, "..."]:
        """Draw from each distribution of the batch.

        Args:
            seed: A PRNG key, or a number to make one of.
            sample_shape: The shape, or the number, of independent draws from each.

        Returns:
            Draws of shape ``(*sample_shape, *batch_shape, *event_shape)``.
        """
        return self._sample(_as_key(seed), _as_shape(sample_shape))

    def sample_and_log_prob(
        self, *, seed: int | Key[Array, ""] | Shaped[Array, "2"], sample_shape: Any = ()
    ) -> tuple[Shaped[Array, "..."], Float[Array, "..."]]:
        """Draw as ``sample`` does, and return the log-probabilities of the draws too."""
        return self._sample_and_log_prob(_as_key(seed), _as_shape(sample_shape))

    def log_prob(self, value: Shaped[Array, "..."]) -> Float[Array, "..."]:
        """Return the log-probability, or log-density, of values of the event's shape."""
        raise NotImplementedError(f"{type(self).__name__} must implement log_prob")

    def mode(self) -> Shaped[Array, "..."]:
        """Return the most likely value."""
        raise NotImplementedError(f"{type(self).__name__} has no mode")

    def mean(self) -> Float[Array, "..."]:
        """Return the expected value."""
        raise NotImplementedError(f"{type(self).__name__} has no mean in closed form")

    def stddev(self) -> Float[Array, "..."]:
        """Return the standard deviation."""
        raise NotImplementedError(f"{type(self).__name__} has no deviation in closed form")

    def entropy(self) -> Float[Array, "..."]:
        """Return the entropy in nats."""
        raise NotImplementedError(f"{type(self).__name__} has no entropy in closed form")

    def kl_divergence(self, other: Any) -> Float[Array, "..."]:
        """Return the Kullback-Leibler divergence of the other distribution from this, in nats.

        Args:
            other: A distribution of the same kind and batch shape.
        """
        raise NotImplementedError(f"{type(self).__name__} has no divergence in closed form")

    def _sample(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        raise NotImplementedError(f"{type(self).__name__} must implement _sample")

    def _sample_and_log_prob(
        self, key: Array, sample_shape: tuple[int, ...]
    ) -> tuple[Array, Array]:
        sample = self._sample(key, sample_shape)
        return sample, self.log_prob(sample)


def check_kind(distribution: Distribution, other: Distribution, kind: type[Distribution]) -> None:
    """Raise ``ValueError`` unless the other is of a kind that a divergence is defined to."""
    if not isinstance(other, kind):
        raise ValueError(
            f"{type(distribution).__name__}.kl_divergence: other must be of {kind.__name__}, got "
            f"{type(other).__name__}"
        )


def _as_key(seed: Any) -> Array:
    return jax.random.key(seed) if isinstance(seed, int) else seed


def _as_shape(sample_shape: Any) -> tuple[int, ...]:
    return tuple(sample_shape) if isinstance(sample_shape, Sequence) else (int(sample_shape),)
