"""From a wrapped environment to its task, and what the wrappers make of an observation."""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import PyTree

from memorax.environments.environment import Environment
from memorax.environments.wrappers.base import Wrapper
from memorax.environments.wrappers.observations import ObservationWrapper
from memorax.environments.wrappers.recent_observations import RecentObservationsWrapper


def split_observation_wrappers(
    env: Environment, params: Any
) -> tuple[Environment, Callable[[PyTree], PyTree]]:
    """Return the task within wrappers, and what they make of one of its observations.

    Args:
        env: The task in its wrappers.
        params: Its parameters.

    Returns:
        The outermost environment whose observations a random or stateful wrapper makes, or else
        the task itself, and the function of its observations that the wrappers around it are.
    """
    wrappers: list[ObservationWrapper] = []
    while isinstance(env, Wrapper):
        if isinstance(env, ObservationWrapper) and not env.is_random:
            wrappers.append(env)
        elif isinstance(env, RecentObservationsWrapper) or not env.keeps_observations:
            break
        env = env.env

    def observe(observation: PyTree) -> PyTree:
        for wrapper in reversed(wrappers):
            observation = wrapper.observe(jax.random.key(0), observation, params)
        return observation

    return env, observe
