"""XLand-MiniGrid; the only file that imports xminigrid."""

import dataclasses
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, PyTree
from xminigrid import registration
from xminigrid.core.constants import NUM_COLORS, NUM_TILES
from xminigrid.rendering import rgb_render

from memorax.dtypes import in_32_bits
from memorax.environments.checks import check_parameters
from memorax.environments.environment import Environment, Frame
from memorax.environments.episodic import Advance, EpisodicEnvironment
from memorax.environments.spaces import Discrete, MultiDiscrete, Space
from memorax.validation import check_integer, check_positive, unknown_name


class XMiniGridEnvironment(EpisodicEnvironment):
    """An XLand-MiniGrid environment. Reaching ``max_steps`` truncates an episode.

    Args:
        name: XLand-MiniGrid's name.
        env: What ``xminigrid.make`` returns first.
    """

    def __init__(self, name: str, env: Any):
        super().__init__(name)
        self._env = env

    @in_32_bits
    def begin(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return an episode's first observation and its state."""
        timestep = self._env.reset(params, key)
        return timestep.observation, timestep

    @in_32_bits
    def advance(self, key: Array, state: PyTree, action: Array, params: Any) -> Advance:
        """Act once within an episode; the state holds XLand-MiniGrid's own key."""
        timestep = self._env.step(params, state, action)
        terminated = timestep.last() & (timestep.discount == 0)
        return timestep.observation, timestep, timestep.reward, terminated, timestep.last()

    def render_frame(self, state: PyTree, params: Any) -> Frame | None:
        """Return the whole grid with the agent's view highlighted."""
        grid = np.asarray(state.state.grid)
        return rgb_render.render(grid, state.state.agent, int(params.view_size))

    def observation_space(self, params: Any) -> Space:
        """Return the space of observations: tile and colour of each cell in view."""
        largest = np.array([NUM_TILES - 1, NUM_COLORS - 1], np.uint8)
        shape = tuple(self._env.observation_shape(params))
        return MultiDiscrete(np.uint8(0), largest, shape, np.uint8)

    def action_space(self, params: Any) -> Space:
        """Return the space of actions."""
        return Discrete(int(self._env.num_actions(params)))


def names() -> list[str]:
    """Return the names of XLand-MiniGrid's environments."""
    return list(registration.registered_environments())


@jax.enable_x64(False)
def make(name: str, /, **params: Any) -> tuple[Environment, Any]:
    """Return XLand-MiniGrid's environment and its parameters, each set as asked.

    The tasks ``"XLand-MiniGrid-..."`` have no goal until they are given a ``ruleset``, such as
    one of the suite's benchmarks.

    Args:
        name: XLand-MiniGrid's name, such as ``"MiniGrid-MemoryS8"``.
        **params: Fields of the environment's parameters, such as ``view_size=5``. ``height`` and
            ``width`` are at least those that the name stands for.

    Raises:
        ValueError: If the environment or a parameter is unknown, or a size is out of range.
    """
    if name not in names():
        raise ValueError(unknown_name("xminigrid environment", name, names()))
    env, defaults = registration.make(name)
    accepted = {field.name: getattr(defaults, field.name) for field in dataclasses.fields(defaults)}
    # Drawing is asked of the environment, not of the task.
    del accepted["render_mode"]
    check_parameters(f"xminigrid::{name}", params, accepted)
    # In a smaller grid some tasks have no room for the agent or the goal.
    for size in ("height", "width"):
        check_integer(
            f"xminigrid::{name}: {size}", params.get(size, accepted[size]), accepted[size]
        )
    for size in ("view_size", "max_steps"):
        check_positive(f"xminigrid::{name}: {size}", params.get(size, accepted[size]))
    view_size = params.get("view_size", accepted["view_size"])
    if view_size % 2 == 0:
        raise ValueError(f"xminigrid::{name}: view_size must be odd, got {view_size}")
    return XMiniGridEnvironment(name, env), dataclasses.replace(defaults, **params)
