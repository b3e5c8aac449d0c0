"""Brax's continuous control; the only file that imports brax."""

from typing import Any

import jax.numpy as jnp
from brax import envs
from jaxtyping import Array, PyTree

from memorax.environments.checks import check_parameters, signature_defaults
from memorax.environments.environment import Environment
from memorax.environments.episodic import Advance, EpisodicEnvironment
from memorax.environments.spaces import Box, Space
from memorax.validation import check_positive, unknown_name

EPISODE_LENGTH = 1000
"""The time limit of brax.envs.create."""

# Of brax.envs.base.PipelineEnv.
_BACKENDS = ("generalized", "mjx", "positional", "spring")

_LEFT_OUT = {
    "fast": "it is a stub for Brax's own tests",
    "swimmer": "its fluid forces need a version of JAX older than ours",
}


class BraxEnvironment(EpisodicEnvironment):
    """A Brax environment with a time limit.

    Brax's own wrapper begins every episode in the same state; here each begins in a fresh one.

    Args:
        name: Brax's name.
        env: What ``brax.envs.get_environment`` returns.
        episode_length: Steps after which an episode is truncated.
    """

    def __init__(self, name: str, env: Any, episode_length: int):
        super().__init__(name)
        self._env = env
        self._episode_length = episode_length

    def begin(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return an episode's first observation and its state, Brax's and the time."""
        state = self._env.reset(key)
        return state.obs, (state, jnp.int32(0))

    def advance(self, key: Array, state: PyTree, action: Array, params: Any) -> Advance:
        """Act once within an episode; Brax's dynamics are deterministic."""
        state, time = state
        state, time = self._env.step(state, action), time + 1
        truncated = time >= self._episode_length
        reward = jnp.asarray(state.reward)
        return state.obs, (state, time), reward, state.done > 0, truncated

    def observation_space(self, params: Any) -> Space:
        """Return the space of observations."""
        return Box(-jnp.inf, jnp.inf, (self._env.observation_size,))

    def action_space(self, params: Any) -> Space:
        """Return the range of the actuators."""
        bounds = self._env.sys.actuator.ctrl_range
        return Box(bounds[:, 0], bounds[:, 1], (self._env.action_size,))


def names() -> list[str]:
    """Return the names of Brax's environments."""
    return [name for name in envs._envs if name not in _LEFT_OUT]


def make(name: str, /, **params: Any) -> tuple[Environment, Any]:
    """Return Brax's environment, and its parameters, which are none: the environment holds them.

    Args:
        name: Brax's name, such as ``"ant"``.
        **params: ``episode_length``, the time limit, and arguments of the environment's
            constructor, such as ``backend="spring"``.

    Raises:
        ValueError: If the environment, a parameter or the backend is unknown.
    """
    if name in _LEFT_OUT:
        raise ValueError(f"brax::{name} is left out: {_LEFT_OUT[name]}")
    if name not in names():
        raise ValueError(unknown_name("brax environment", name, names()))
    accepted = signature_defaults(envs._envs[name]) | {"episode_length": EPISODE_LENGTH}
    check_parameters(f"brax::{name}", params, accepted)
    backend = params.get("backend", _BACKENDS[0])
    if backend not in _BACKENDS:
        raise ValueError(unknown_name("brax backend", str(backend), _BACKENDS))
    episode_length = params.pop("episode_length", EPISODE_LENGTH)
    check_positive(f"brax::{name}: episode_length", episode_length)
    return BraxEnvironment(name, envs.get_environment(name, **params), episode_length), None
