"""Copies of an environment that run in parallel."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from memorax.dtypes import as_before, narrowed, strongly_typed
from memorax.environments.checks import as_action
from memorax.environments.environment import Environment, Normalize, Step
from memorax.environments.wrappers.base import Wrapper
from memorax.environments.wrappers.running_statistics import COPIES, of_all_copies
from memorax.validation import check_positive


class Vectorize(Wrapper):
    """Run independent copies in parallel; every array gets a leading axis of ``num_envs``.

    They share only running statistics, such as those of ``NormalizeObservation``.

    Dtypes never change from step to step, whatever the wrapped environment's do: those of a state
    are those it had before, observations and rewards are numbers of 32 bits at most also where JAX
    computes in 64 (``jax_enable_x64``), and no array's dtype depends on its operands.

    Args:
        env: The environment to copy.
        num_envs: Number of copies.

    Examples:
        >>> wrapped = Vectorize(env, num_envs=3)
        >>> observation, state = jax.eval_shape(wrapped.reset, key, params)
        >>> observation.shape  # of one environment: (2,)
        (3, 2)
    """

    keeps_observations = True

    def __init__(self, env: Environment, num_envs: int):
        check_positive("Vectorize.num_envs", num_envs)
        super().__init__(env)
        self.num_envs = num_envs

    def reset(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return every copy's first observation and state."""
        keys = jax.random.split(key, self.num_envs)
        reset = jax.vmap(self.env.reset, in_axes=(0, None), axis_name=COPIES)
        observation, state = reset(keys, params)
        return narrowed(observation), strongly_typed(state)

    def step(self, key: Array, state: PyTree, action: Array, params: Any) -> Step:
        """Act once in every copy."""
        # Here, since JAX narrows what it maps over.
        action = as_action(self.name, self.env.action_space(params), action, (self.num_envs,))
        keys = jax.random.split(key, self.num_envs)
        step = jax.vmap(self.env.step, in_axes=(0, 0, 0, None), axis_name=COPIES)
        observation, next_state, reward, terminated, truncated, info = step(
            keys, state, action, params
        )
        reward = reward.astype(jnp.float32)
        return (
            *(narrowed(observation), as_before(state, next_state), reward),
            *(terminated, truncated, narrowed(info)),
        )

    def without_normalization(self) -> tuple[Environment, Normalize]:
        """Return copies that show observations before they are normalised, and the rest."""
        env, normalize = super().without_normalization()
        return env, lambda state, observation: normalize(of_all_copies(state), observation)
