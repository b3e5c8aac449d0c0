"""Gymnax's environments; the only file that imports gymnax."""

import dataclasses
from typing import Any

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
from gymnax import registration
from gymnax.environments import spaces as gymnax_spaces
from jaxtyping import Array, PyTree

from memorax.dtypes import in_32_bits
from memorax.environments.checks import check_action, check_parameters, signature_defaults
from memorax.environments.environment import Environment, Frame, Step
from memorax.environments.spaces import Box, Discrete, Space
from memorax.validation import check_positive, unknown_name

# Those that gymnax's visualizer draws.
_DRAWN = {
    *("Acrobot-v1", "CartPole-v1", "Pendulum-v1", "MountainCar-v0", "MountainCarContinuous-v0"),
    *("Catch-bsuite", "PointRobot-misc", "MetaMaze-misc", "FourRooms-misc", "Pong-misc"),
    *("Asterix-MinAtar", "Breakout-MinAtar", "Freeway-MinAtar", "SpaceInvaders-MinAtar"),
}


class GymnaxEnvironment(Environment):
    """A Gymnax environment, with dtypes that do not change from step to step.

    Args:
        env: What ``gymnax.make`` returns first.
    """

    def __init__(self, env: Any):
        self._env = env

    @property
    def name(self) -> str:
        """The name that Gymnax gives it."""
        return self._env.name

    @in_32_bits
    def reset(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return the first observation of an episode and the state."""
        return self._env.reset(key, params)

    @in_32_bits
    def step(self, key: Array, state: PyTree, action: Array, params: Any) -> Step:
        """Act once; Gymnax itself resets at an episode's end and keeps the last observation.

        Gymnax accepts any number as an action; here, under ``jit``, an invalid one yields a NaN
        reward. Continuous actions out of range are left to Gymnax: most tasks clip.

        Raises:
            ValueError: If the action is invalid, where its value is known.
        """
        space = self.action_space(params)
        allowed = True
        if isinstance(space, Discrete):
            allowed = check_action(self.name, space, action)
        observation, state, reward, terminated, truncated, info = self._env.step(
            key, state, action, params
        )
        reward = jnp.where(allowed, jnp.asarray(reward, jnp.float32), jnp.nan)
        terminated = jnp.asarray(terminated)
        return observation, state, reward, terminated, truncated & ~terminated, info

    def render_frame(self, state: PyTree, params: Any) -> Frame | None:
        """Return what gymnax's visualizer draws; most of its tasks it does not."""
        if self.name not in _DRAWN:
            return None
        # Not at the top: they take a while, and only who watches needs them.
        from gymnax.visualize import Visualizer  # noqa: PLC0415
        from matplotlib import pyplot  # noqa: PLC0415
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415

        visualizer = Visualizer(self._env, params, [state])
        visualizer.init()
        canvas = FigureCanvasAgg(visualizer.fig)
        canvas.draw()
        pyplot.close(visualizer.fig)
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()

    def observation_space(self, params: Any) -> Space:
        """Return the space of observations."""
        space = _space(self._env.observation_space(params))
        if isinstance(space, Discrete):
            return space
        # What Gymnax says of its dtypes is often not so.
        shown, _ = jax.eval_shape(self._env.reset, jax.random.key(0), params)
        return dataclasses.replace(space, dtype=shown.dtype)

    def action_space(self, params: Any) -> Space:
        """Return the space of actions."""
        return _space(self._env.action_space(params))


def names() -> list[str]:
    """Return the names of Gymnax's environments."""
    return list(registration.registered_envs)


@jax.enable_x64(False)
def make(name: str, /, **params: Any) -> tuple[Environment, Any]:
    """Return Gymnax's environment and its parameters, each set as asked.

    Args:
        name: Gymnax's name, such as ``"MemoryChain-bsuite"``.
        **params: Fields of the environment's parameters (``memory_length=20``) or arguments of
            its constructor (``num_bits=3``).

    Raises:
        ValueError: If there is no such environment, it has no such parameter, a number is of
            another kind than the default, or an integer whose default is positive is not.
    """
    if name not in registration.registered_envs:
        raise ValueError(unknown_name("gymnax environment", name, names()))
    accepted = signature_defaults(registration._registry[name])
    constructor = {key: params.pop(key) for key in list(params) if key in accepted}
    env, defaults = gymnax.make(name, **_checked(name, constructor, accepted))
    fields = {field.name: getattr(defaults, field.name) for field in dataclasses.fields(defaults)}
    params = _checked(name, params, fields | accepted)
    return GymnaxEnvironment(env), dataclasses.replace(defaults, **params)


def _checked(name: str, params: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Check parameters; Gymnax accepts lengths, sizes and speeds of 0 and less, which are invalid.

    Returns:
        The parameters, an integer for one that is not always whole as a float: Gymnax computes
        in the dtype that it is given.

    Raises:
        ValueError: As ``make``.
    """
    check_parameters(f"gymnax::{name}", params, defaults)
    for key, value in params.items():
        default = defaults[key]
        if isinstance(default, int) and not isinstance(default, bool) and default > 0:
            check_positive(f"gymnax::{name}: {key}", value)
    return {
        key: float(value) if isinstance(defaults[key], float) else value
        for key, value in params.items()
    }


def _space(space: Any) -> Space:
    if isinstance(space, gymnax_spaces.Discrete):
        return Discrete(int(space.n))
    if isinstance(space, gymnax_spaces.Box):
        shape = tuple(int(size) for size in space.shape)
        return Box(space.low, space.high, shape, space.dtype)
    raise ValueError(f"a gymnax space must be Discrete or Box, got {space!r}")
