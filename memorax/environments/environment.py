"""The interface of an environment."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Array, Bool, Float, PyTree, UInt8

from memorax.environments.spaces import Space

Frame = UInt8[np.ndarray, "height width 3"]
Normalize = Callable[[PyTree, PyTree], PyTree]
Step = tuple[
    PyTree,
    PyTree,
    Float[Array, "*copies"],
    Bool[Array, "*copies"],
    Bool[Array, "*copies"],
    dict[str, Any],
]


class Environment:
    """A task in pure JAX, in Gymnax's manner: pure functions of a state, with automatic resets.

    ``step`` starts a new episode when one ends. The observation it returns is then the
    new episode's first, and ``info["final_observation"]`` is the true last one of the episode
    that ended, which values after a time limit are computed from. In every other
    step the two are the same.

    Examples:
        >>> class Guess(Environment):
        ...     def reset(self, key, params):
        ...         return jnp.zeros(1), jax.random.bernoulli(key)
        ...     def step(self, key, state, action, params):
        ...         observation, info = jnp.zeros(1), {"final_observation": jnp.zeros(1)}
        ...         reward = jnp.where(action == state, 1.0, 0.0)
        ...         return observation, state, reward, jnp.bool_(True), jnp.bool_(False), info
    """

    @property
    def name(self) -> str:
        """The task's name."""
        return type(self).__name__

    def reset(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return the first observation of an episode and the state."""
        raise NotImplementedError(f"{type(self).__name__} must implement reset")

    def step(self, key: Array, state: PyTree, action: Array, params: Any) -> Step:
        """Act once.

        Returns:
            Observation, state, reward, terminated (the task itself ended), truncated (a time limit
            ended the episode) and info.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement step")

    def for_evaluation(self, state: PyTree) -> "Environment":
        """Return the environment to evaluate on, given the state of copies trained on.

        A wrapper with running statistics uses those of training.

        Args:
            state: The state of vectorised copies of this environment.
        """
        return self

    def without_normalization(self) -> "tuple[Environment, Normalize]":
        """Return what shows observations before running statistics normalise them, and the rest.

        A replay keeps observations as they were, for what was normalised by old statistics is not
        what a network reads now.

        Returns:
            The environment, itself if it normalises nothing, and (its state, observations) to what
            this environment would show. Observations may have more leading axes.

        Raises:
            ValueError: If a wrapper changes observations after they were normalised.
        """
        return self, lambda state, observation: observation

    def with_rendering(self) -> "Environment":
        """Return the environment whose states ``render_frame`` draws.

        The same, but where who makes an environment has to say that it will draw.
        """
        return self

    def render_text(self, state: PyTree, params: Any) -> str | None:
        """Return a state as a picture of characters; None: its observation is all there is to see.

        Args:
            state: The state of a single copy, with values; not for compiled programs.
            params: The environment's parameters.
        """
        return None

    def render_frame(self, state: PyTree, params: Any) -> Frame | None:
        """Return a state as a picture; None: the environment does not draw.

        Args:
            state: As for ``render_text``.
            params: The environment's parameters.
        """
        return None

    def observation_space(self, params: Any) -> PyTree:
        """Return the space of observations; of several parts, a dictionary or tuple of spaces."""
        raise NotImplementedError(f"{type(self).__name__} must implement observation_space")

    def action_space(self, params: Any) -> Space:
        """Return the space of actions."""
        raise NotImplementedError(f"{type(self).__name__} must implement action_space")
