"""The base of environments around environments."""

import copy
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, PyTree

from memorax.environments.environment import Environment, Frame, Normalize, Step
from memorax.environments.spaces import Space

SMALLEST_FLOAT = float(jnp.finfo(jnp.float32).tiny)
LARGEST_FLOAT = float(jnp.finfo(jnp.float32).max)
"""Observations and rewards are numbers of 32 bits."""


class Wrapper(Environment):
    """Forwards everything to the wrapped environment; a subclass overrides what it changes.

    Args:
        env: The environment to wrap.

    Attributes:
        keeps_state: Whether its state has more than the wrapped environment's, which is then the
            field ``env_state`` of it.
        keeps_observations: Whether observations are those of the wrapped environment, unchanged.

    Raises:
        ValueError: If ``env`` is not an environment.

    Examples:
        >>> class Half(Wrapper):
        ...     def step(self, key, state, action, params):
        ...         step = self.env.step(key, state, action, params)
        ...         return *step[:2], step[2] / 2, *step[3:]
        >>> Half(env).action_space(params) == env.action_space(params)
        True
    """

    keeps_state = False
    keeps_observations = False

    def __init__(self, env: Environment):
        if not isinstance(env, Environment):
            raise ValueError(
                f"{type(self).__name__}.env must be a memorax.environments.Environment, got "
                f"{type(env).__name__}; environments.make returns (environment, parameters)"
            )
        self.env = env

    @property
    def name(self) -> str:
        """The wrapped environment's name."""
        return self.env.name

    def reset(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return the first observation of an episode and the state."""
        return self.env.reset(key, params)

    def step(self, key: Array, state: PyTree, action: Array, params: Any) -> Step:
        """Act once."""
        return self.env.step(key, state, action, params)

    def inner_state(self, state: PyTree) -> PyTree:
        """Return the wrapped environment's part of a state."""
        return state.env_state if self.keeps_state else state

    def for_evaluation(self, state: PyTree) -> Environment:
        """Return the wrapper around the wrapped environment's form for evaluation."""
        return self._around(self.env.for_evaluation(self.inner_state(state)))

    def without_normalization(self) -> tuple[Environment, Normalize]:
        """Return the same around what shows observations before they are normalised, and the rest.

        Raises:
            ValueError: If this wrapper changes observations after they were normalised.
        """
        env, normalize = self.env.without_normalization()
        if env is self.env:
            return self, normalize
        if not self.keeps_observations:
            raise ValueError(
                f"NormalizeObservation must wrap {type(self).__name__} and not be wrapped in it, "
                "since a replay keeps observations as they are before they are normalised; a "
                "wrapper that changes none sets keeps_observations = True"
            )
        return self._around(env), lambda state, observation: normalize(
            self.inner_state(state), observation
        )

    def with_rendering(self) -> Environment:
        """Return the wrapper around the wrapped environment's form for rendering."""
        return self._around(self.env.with_rendering())

    def _around(self, env):
        wrapper = copy.copy(self)
        wrapper.env = env
        return wrapper

    def render_text(self, state: PyTree, params: Any) -> str | None:
        """Return a state as the wrapped environment shows it."""
        return self.env.render_text(self.inner_state(state), params)

    def render_frame(self, state: PyTree, params: Any) -> Frame | None:
        """Return a state as the wrapped environment draws it."""
        return self.env.render_frame(self.inner_state(state), params)

    def observation_space(self, params: Any) -> PyTree:
        """Return the space of observations."""
        return self.env.observation_space(params)

    def action_space(self, params: Any) -> Space:
        """Return the space of actions."""
        return self.env.action_space(params)
