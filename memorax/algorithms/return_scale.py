"""The typical size of returns, by which rewards are divided before their values are learned."""

from dataclasses import replace

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, PyTree

MOST_COUNTED = 2**20
"""The largest count of returns: from there on the oldest fade, since float32 counts no further."""


@struct.dataclass
class ReturnScale:
    """The root mean square of discounted returns, over the steps at which they are not 0.

    At a step, the return is the discounted sum of its episode's rewards so far. Steps before an
    episode's first reward do not count, so that a reward of 1 at the end of each episode has size
    1, however long episodes are.

    Attributes:
        discounted_return: ``(num_envs,)``; of the episodes that are not over.
        mean_square: Of the returns counted.
        count: Their number, at most ``MOST_COUNTED`` or those of the latest steps.
    """

    discounted_return: PyTree
    mean_square: PyTree
    count: PyTree

    @classmethod
    def init(cls, num_envs: int) -> "ReturnScale":
        """Return the scale before any reward."""
        return cls(jnp.zeros(num_envs, jnp.float32), jnp.float32(0), jnp.int32(0))

    def update(
        self,
        reward: Float[Array, "time envs"],
        ended: Bool[Array, "time envs"],
        gamma: float | Float[Array, ""],
    ) -> "ReturnScale":
        """Return the scale after more steps.

        Args:
            reward: The reward of each step.
            ended: Whether its episode ended with it.
            gamma: The discount of the return.
        """

        def step(discounted_return, inputs):
            reward, ended = inputs
            discounted_return = gamma * discounted_return + reward
            return jnp.where(ended, 0.0, discounted_return), discounted_return

        discounted_return, returns = jax.lax.scan(step, self.discounted_return, (reward, ended))
        number = (returns != 0).sum(dtype=jnp.int32)
        # A rollout may have more of them than are counted, and then is all that counts.
        count = jnp.minimum(self.count, jnp.maximum(MOST_COUNTED - number, 0)) + number
        mean_square = jnp.square(returns).sum() / jnp.maximum(number, 1)
        share = number / jnp.maximum(count, 1)
        return replace(
            self,
            discounted_return=discounted_return,
            mean_square=self.mean_square + share * (mean_square - self.mean_square),
            count=count,
        )

    @property
    def size(self) -> Float[Array, ""]:
        """The typical size of a return, 1 before the first reward."""
        return jnp.where(self.count > 0, jnp.sqrt(self.mean_square), 1.0)
