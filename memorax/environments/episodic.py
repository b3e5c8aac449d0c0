"""Automatic resets of our own tasks and of the adapters of pure JAX suites."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from memorax.environments.checks import check_action
from memorax.environments.environment import Environment, Step
from memorax.environments.rewards import as_reward

Advance = tuple[PyTree, PyTree, Float[Array, ""], Bool[Array, ""], Bool[Array, ""]]


class EpisodicEnvironment(Environment):
    """An environment defined by how an episode begins and advances.

    Subclasses implement ``begin``, ``advance`` and the two spaces.

    Args:
        name: The name that the suite gives it.
    """

    def __init__(self, name: str):
        self._name = name

    @property
    def name(self) -> str:
        """The name that the suite gives it."""
        return self._name

    def begin(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return an episode's first observation and its state."""
        raise NotImplementedError(f"{type(self).__name__} must implement begin")

    def begin_next(self, key: Array, state: PyTree, params: Any) -> tuple[PyTree, PyTree]:
        """Return the first observation and the state of the episode after one that has ended.

        By default it begins like any other. A task that prepares the next episode as it advances
        finds that in the state of the one that ended.
        """
        return self.begin(key, params)

    def advance(self, key: Array, state: PyTree, action: Array, params: Any) -> Advance:
        """Act once within an episode.

        Returns:
            Observation, state, reward, terminated and truncated; nothing is reset. Where both a
            termination and a time limit end an episode, it is a termination.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement advance")

    def reset(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return the first observation of an episode and the state."""
        return self.begin(key, params)

    def step(self, key: Array, state: PyTree, action: Array, params: Any) -> Step:
        """Act once; an episode that ends is followed by the next.

        An action outside of the action space earns NaN where the program is compiled, which no
        training overlooks.

        Raises:
            ValueError: If the action is not of the action space's shape or, where its value is
                known, outside of it.
        """
        allowed = check_action(self.name, self.action_space(params), action)
        advance_key, key = jax.random.split(key)
        final_observation, state, reward, terminated, truncated = self.advance(
            advance_key, state, jnp.asarray(action), params
        )
        truncated = truncated & ~terminated

        def begin_again(loop):
            _, key, observation, state = loop
            # The key changes, or the compiler would begin an episode before each loop.
            key, begin_key = jax.random.split(key)
            begun = _like((observation, state), self.begin_next(begin_key, state, params))
            return False, key, *begun

        # Beginning an episode may be much more work than a step. A conditional would
        # become a choice between both under vmap; a loop is not entered where no copy has ended.
        _, _, observation, state = jax.lax.while_loop(
            lambda loop: loop[0],
            begin_again,
            (terminated | truncated, key, final_observation, state),
        )
        reward = jnp.where(allowed, as_reward(self.name, reward), jnp.nan)
        info = {"final_observation": final_observation}
        return observation, state, reward, terminated, truncated, info


def _like(old: PyTree, new: PyTree) -> PyTree:
    """Give ``new`` the dtypes of ``old``, which suites do not always keep."""
    return jax.tree.map(lambda old, new: jnp.asarray(new, old.dtype), old, new)
