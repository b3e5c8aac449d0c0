"""NAVIX, MiniGrid in JAX; the only file that imports navix."""

from typing import Any

import jax
import navix
import numpy as np
from jaxtyping import Array, PyTree
from navix.entities import Directions, EntityIds
from navix.environments.registry import registry
from navix.rendering.registry import PALETTE

from memorax.dtypes import in_32_bits
from memorax.environments.checks import check_parameters
from memorax.environments.environment import Environment, Frame
from memorax.environments.episodic import Advance, EpisodicEnvironment
from memorax.environments.spaces import Box, Discrete, MultiDiscrete, Space
from memorax.validation import check_positive, unknown_name

_OBSERVATIONS = {
    name: getattr(navix.observations, name)
    for name in (
        "categorical",
        "categorical_first_person",
        "rgb",
        "rgb_first_person",
        "symbolic",
        "symbolic_first_person",
    )
}
_PIXELS = navix.observations.rgb, navix.observations.rgb_first_person
_PARAMETERS = {"max_steps": 100, "observation": "symbolic"}


class NavixEnvironment(EpisodicEnvironment):
    """A NAVIX environment. Reaching ``max_steps`` truncates an episode.

    Args:
        name: NAVIX's name.
        env: What ``navix.make`` returns.
    """

    def __init__(self, name: str, env: Any):
        super().__init__(name)
        self._env = env

    @in_32_bits
    def begin(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return an episode's first observation and its state."""
        timestep = self._env.reset(key)
        return timestep.observation, timestep

    @in_32_bits
    def advance(self, key: Array, state: PyTree, action: Array, params: Any) -> Advance:
        """Act once within an episode; the state holds NAVIX's own key."""
        # The public `step` resets by itself, a step later than our environments do.
        timestep = self._env._step(state, action)
        terminated, truncated = timestep.is_termination(), timestep.is_truncation()
        return timestep.observation, timestep, timestep.reward, terminated, truncated

    def render_frame(self, state: PyTree, params: Any) -> Frame | None:
        """Return the whole grid."""
        return np.asarray(navix.observations.rgb(state.state))

    def observation_space(self, params: Any) -> Space:
        """Return the space of observations."""
        space = self._env.observation_space
        shape, dtype = tuple(space.shape), space.dtype
        if self._env.observation_fn in _PIXELS:
            return Box(np.uint8(0), np.uint8(255), shape, dtype)
        # The upper bounds that NAVIX declares are lower than some of its tags.
        if len(shape) == 2:
            # Walls are -1.
            return MultiDiscrete(np.int32(-1), np.int32(EntityIds.PLAYER), shape, dtype)
        largest = (EntityIds.PLAYER, len(PALETTE.as_array()) - 1, Directions.NORTH)
        return MultiDiscrete(np.uint8(0), np.array(largest, np.uint8), shape, dtype)

    def action_space(self, params: Any) -> Space:
        """Return the space of actions."""
        return Discrete(int(self._env.action_space.maximum) + 1)


def names() -> list[str]:
    """Return the names of NAVIX's environments."""
    return list(registry())


@jax.enable_x64(False)
def make(name: str, /, **params: Any) -> tuple[Environment, Any]:
    """Return NAVIX's environment, and its parameters, which are none: the environment holds them.

    Args:
        name: NAVIX's name, such as ``"Navix-DoorKey-5x5-v0"``.
        **params: ``max_steps``, the time limit; ``observation``, the name of one of NAVIX's
            observation functions, such as ``"symbolic_first_person"``, which sees only a part.

    Raises:
        ValueError: If the environment, a parameter or the observation is unknown.
    """
    if name not in registry():
        raise ValueError(unknown_name("navix environment", name, names()))
    check_parameters(f"navix::{name}", params, _PARAMETERS)
    options = _PARAMETERS | params
    check_positive(f"navix::{name}: max_steps", options["max_steps"])
    if options["observation"] not in _OBSERVATIONS:
        raise ValueError(
            unknown_name("navix observation", str(options["observation"]), _OBSERVATIONS)
        )
    env = navix.make(
        name,
        max_steps=options["max_steps"],
        observation_fn=_OBSERVATIONS[options["observation"]],
    )
    return NavixEnvironment(name, env), None
