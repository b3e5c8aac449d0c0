"""Exploration of agents that act by action values."""

from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from memorax.distributions import EpsilonGreedy


def linear_epsilon(
    config: Any, num_updates: Int[Array, ""], steps_per_update: int
) -> Float[Array, ""]:
    """Return the share of random actions after so many updates.

    Args:
        config: With ``epsilon_start``, ``epsilon_end`` and ``epsilon_decay_steps``.
        num_updates: Updates so far.
        steps_per_update: Environment steps of each, over all environments.
    """
    # All steps of a long run do not fit into 32 bits; those up to the end of the decay do.
    num_updates = jnp.minimum(num_updates, -(-config.epsilon_decay_steps // steps_per_update))
    num_env_steps = num_updates.astype(jnp.uint32) * jnp.uint32(steps_per_update)
    schedule = optax.linear_schedule(
        config.epsilon_start, config.epsilon_end, config.epsilon_decay_steps
    )
    return jnp.asarray(schedule(num_env_steps), jnp.float32)


def epsilon_greedy(
    key: Array, values: Float[Array, "*batch actions"], epsilon: Float[Array, ""] | float
) -> Int[Array, "*batch"]:
    """Draw the most valued action, or with probability ``epsilon`` any."""
    return EpsilonGreedy(values, epsilon).sample(seed=key)
