"""Craftax and Craftax-Classic; the only file that imports craftax."""

import dataclasses
import importlib
import os
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
from craftax.craftax_env import make_craftax_env_from_name
from jaxtyping import Array, PyTree

from memorax.cache_folder import user_cache_folder
from memorax.dtypes import in_32_bits
from memorax.environments.checks import check_parameters
from memorax.environments.environment import Environment, Frame
from memorax.environments.episodic import Advance, EpisodicEnvironment
from memorax.environments.spaces import Box, Discrete, Space
from memorax.validation import check_positive, unknown_name

# Each name's package within craftax, which holds its textures.
_PACKAGES = {
    "Craftax-Symbolic-v1": "craftax",
    "Craftax-Pixels-v1": "craftax",
    "Craftax-Classic-Symbolic-v1": "craftax_classic",
    "Craftax-Classic-Pixels-v1": "craftax_classic",
}
_NEVER = 2**31 - 1


class CraftaxEnvironment(EpisodicEnvironment):
    """A Craftax environment. Reaching ``max_timesteps`` truncates an episode.

    Args:
        name: Craftax's name.
        env: What ``make_craftax_env_from_name`` returns without auto-reset.
    """

    def __init__(self, name: str, env: Any):
        super().__init__(name)
        self._env = env

    @in_32_bits
    def begin(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return an episode's first observation and its state, a new world."""
        return self._env.reset_env(key, params)

    @in_32_bits
    def advance(self, key: Array, state: PyTree, action: Array, params: Any) -> Advance:
        """Act once within an episode."""
        observation, state, reward, done, _ = self._env.step_env(key, state, action, params)
        unlimited = dataclasses.replace(params, max_timesteps=_NEVER)
        return observation, state, reward, self._env.is_terminal(state, unlimited), done

    def render_frame(self, state: PyTree, params: Any) -> Frame | None:
        """Return the pixels of an environment that shows pixels; the others have no textures."""
        if "Pixels" not in self.name:
            return None
        return np.asarray(255 * self._env.get_obs(state)).round().astype(np.uint8)

    def observation_space(self, params: Any) -> Space:
        """Return the space of observations."""
        space = self._env.observation_space(params)
        return Box(space.low, space.high, tuple(space.shape), space.dtype)

    def action_space(self, params: Any) -> Space:
        """Return the space of actions."""
        return Discrete(int(self._env.action_space(params).n))


def names() -> list[str]:
    """Return the names of Craftax's environments."""
    return list(_PACKAGES)


@jax.enable_x64(False)
def make(name: str, /, **params: Any) -> tuple[Environment, Any]:
    """Return Craftax's environment and its parameters, each set as asked.

    Environments that show pixels make their textures when they are first used on a machine,
    which takes about a minute.

    Args:
        name: Craftax's name, such as ``"Craftax-Classic-Symbolic-v1"``.
        **params: Fields of the environment's parameters, such as ``max_timesteps=1000``.

    Raises:
        ValueError: If the environment or a parameter is unknown.
    """
    if name not in _PACKAGES:
        raise ValueError(unknown_name("craftax environment", name, names()))
    _keep_textures_where_allowed(importlib.import_module(f"craftax.{_PACKAGES[name]}.constants"))
    env = make_craftax_env_from_name(name, auto_reset=False)
    defaults = env.default_params
    accepted = {field.name: getattr(defaults, field.name) for field in dataclasses.fields(defaults)}
    check_parameters(f"craftax::{name}", params, accepted)
    check_positive(f"craftax::{name}: max_timesteps", params.get("max_timesteps", 1))
    return CraftaxEnvironment(name, env), dataclasses.replace(defaults, **params)


def _keep_textures_where_allowed(constants: Any) -> None:
    """Let textures be kept in the user's cache if the package's own folder is read-only."""
    file = Path(constants.TEXTURE_CACHE_FILE)
    if not file.exists() and not os.access(file.parent, os.W_OK):
        # Without a home folder they are made again by every process.
        caches = user_cache_folder() or Path(tempfile.mkdtemp())
        caches.mkdir(parents=True, exist_ok=True)
        constants.TEXTURE_CACHE_FILE = str(caches / file.name)
