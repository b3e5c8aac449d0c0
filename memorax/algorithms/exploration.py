"""Exploration of agents that act by action values."""

from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from memorax.distributions import EpsilonGreedy
from memorax.validation import check_between, check_positive


def check_epsilon(config: Any) -> None:
    """Check ``epsilon_start``, ``epsilon_end`` and ``epsilon_decay_steps`` of a configuration."""
    name = type(config).__name__
    for field in ("epsilon_start", "epsilon_end"):
        check_between(f"{name}.{field}", getattr(config, field), 0.0, 1.0)
    check_positive(f"{name}.epsilon_decay_steps", config.epsilon_decay_steps)


def linear_epsilon(config: Any, num_env_steps: Int[Array, ""]) -> Float[Array, ""]:
    """Return the share of random actions after so many environment steps, over all of them."""
    schedule = optax.linear_schedule(
        config.epsilon_start, config.epsilon_end, config.epsilon_decay_steps
    )
    return jnp.asarray(schedule(num_env_steps), jnp.float32)


def epsilon_greedy(
    key: Array, values: Float[Array, "*batch actions"], epsilon: Float[Array, ""] | float
) -> Int[Array, "*batch"]:
    """Draw the most valued action, or with probability ``epsilon`` any."""
    return EpsilonGreedy(values, epsilon).sample(seed=key)
