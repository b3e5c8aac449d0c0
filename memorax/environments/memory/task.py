"""What our own tasks share: how an episode begins again, and what an action may be."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from memorax.environments.environment import Environment, Step
from memorax.environments.spaces import Box, Discrete, Space

Advance = tuple[PyTree, PyTree, Float[Array, ""], Bool[Array, ""], Bool[Array, ""]]


@dataclass(frozen=True)
class Task(Environment):
    """A task of our own: says how an episode begins and how it goes on.

    A task is a frozen dataclass whose fields are the task's parameters, checked when it is made,
    so that ``params`` is empty everywhere. Subclasses implement ``begin``, ``advance`` and the two
    spaces.
    """

    def begin(self, key: Array) -> tuple[PyTree, PyTree]:
        """Return an episode's first observation and its state."""
        raise NotImplementedError(f"{type(self).__name__} must implement begin")

    def advance(self, key: Array, state: PyTree, action: Array) -> Advance:
        """Act once within an episode.

        Returns:
            Observation, state, reward, terminated and truncated; nothing is reset.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement advance")

    def reset(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return the first observation of an episode and the state."""
        return self.begin(key)

    def step(self, key: Array, state: PyTree, action: Array, params: Any) -> Step:
        """Act once; an episode that ends is followed by the next.

        An action outside of the action space earns NaN where the program is compiled, which no
        training overlooks.

        Raises:
            ValueError: If the action is outside of the action space and its value is known.
        """
        space = self.action_space(params)
        action = jnp.asarray(action)
        allowed = _allowed(space, action)
        if not isinstance(allowed, jax.core.Tracer) and not allowed:
            raise ValueError(f"{self.name}: the action must lie in {space}, got {action}")
        advance_key, begin_key = jax.random.split(key)
        final_observation, state, reward, terminated, truncated = self.advance(
            advance_key, state, action
        )
        ended = terminated | truncated
        first_observation, first_state = self.begin(begin_key)

        def unless_ended(new, first):
            return jax.tree.map(lambda new, first: jnp.where(ended, first, new), new, first)

        observation = unless_ended(final_observation, first_observation)
        state = unless_ended(state, first_state)
        reward = jnp.where(allowed, reward, jnp.nan)
        return (
            observation,
            state,
            reward,
            terminated,
            truncated,
            {"final_observation": final_observation},
        )


def _allowed(space: Space, action: Array) -> Array:
    match space:
        case Discrete():
            return (action >= 0) & (action < space.n)
        case Box():
            return jnp.all((action >= space.low) & (action <= space.high))
