"""Jumanji's puzzles, packing and routing; the only file that imports jumanji."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree
from jumanji import registration, specs
from jumanji.wrappers import MultiToSingleWrapper

from memorax.dtypes import in_32_bits
from memorax.environments.checks import check_parameters, signature_defaults
from memorax.environments.environment import Environment
from memorax.environments.episodic import Advance, EpisodicEnvironment
from memorax.environments.spaces import Box, Discrete, Space, flatten_choices
from memorax.validation import check_positive, unknown_name

# Without a generator of its own it loads its levels from the network.
_NEED_GENERATOR = ("Sokoban-v0",)


class JumanjiEnvironment(EpisodicEnvironment):
    """A Jumanji environment.

    The parts of an observation are flattened and joined to one vector in the order of its
    fields, of the dtype that holds them all. Several choices at once are one action, the last
    choice running fastest. Where Jumanji has several agents, one agent chooses for all, and its
    reward is the sum of theirs. A last step with a discount of 0 is a termination, any other a
    truncation; most of Jumanji's time limits are terminations.

    Args:
        name: Jumanji's name.
        env: What ``jumanji.make`` returns.
    """

    def __init__(self, name: str, env: Any):
        super().__init__(name)
        self._env = MultiToSingleWrapper(env)
        self._observation_space = _observation_space(self._env)
        self._sizes, self._action_space = _action_space(name, env.action_spec)

    @in_32_bits
    def begin(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return an episode's first observation and its state."""
        state, timestep = self._env.reset(key)
        return self._flatten(timestep.observation), state

    @in_32_bits
    def advance(self, key: Array, state: PyTree, action: Array, params: Any) -> Advance:
        """Act once within an episode; the state holds Jumanji's own key."""
        spec = self._env.action_spec
        if self._sizes:
            action = jnp.stack(jnp.unravel_index(action, self._sizes))
        action = jnp.reshape(action, spec.shape).astype(spec.dtype)
        state, timestep = self._env.step(state, action)
        observation = self._flatten(timestep.observation)
        ended, discount = jnp.asarray(timestep.last()), jnp.asarray(timestep.discount)
        return observation, state, jnp.asarray(timestep.reward), ended & (discount == 0), ended

    def observation_space(self, params: Any) -> Space:
        """Return the space of flat observations."""
        return self._observation_space

    def action_space(self, params: Any) -> Space:
        """Return the space of actions."""
        return self._action_space

    def _flatten(self, observation: PyTree) -> Array:
        dtype = self._observation_space.dtype
        leaves = [jnp.ravel(leaf).astype(dtype) for leaf in jax.tree.leaves(observation)]
        return jnp.concatenate(leaves)


def names() -> list[str]:
    """Return the names of Jumanji's environments."""
    return sorted(registration.registered_environments())


@jax.enable_x64(False)
def make(name: str, /, **params: Any) -> tuple[Environment, Any]:
    """Return Jumanji's environment, and its parameters, which are none: the environment holds them.

    Args:
        name: Jumanji's name, such as ``"Snake-v1"``.
        **params: Arguments of the environment's constructor, such as ``num_rows=6`` or a
            ``generator``.

    Raises:
        ValueError: If the environment or a parameter is unknown, or the environment would load
            something from the network.
    """
    if name not in names():
        raise ValueError(unknown_name("jumanji environment", name, names()))
    accepted = signature_defaults(registration.load(registration._REGISTRY[name].entry_point))
    check_parameters(f"jumanji::{name}", params, accepted)
    for size in ("num_rows", "num_cols", "board_size", "time_limit"):
        if size in params:
            check_positive(f"jumanji::{name}: {size}", params[size])
    if name in _NEED_GENERATOR and "generator" not in params:
        raise ValueError(
            f"jumanji::{name} would load its levels from the network: give it a generator of yours"
        )
    return JumanjiEnvironment(name, registration.make(name, **params)), None


def _observation_space(env: Any) -> Box:
    _, timestep = jax.eval_shape(env.reset, jax.random.key(0))
    lows, highs, dtypes = [], [], []
    for path, leaf in jax.tree_util.tree_leaves_with_path(timestep.observation):
        spec = env.observation_spec
        for entry in path:
            spec = spec[entry.name if hasattr(entry, "name") else entry.key]
        low, high = _bounds(spec)
        lows.append(np.broadcast_to(np.asarray(low, np.float64), leaf.shape).ravel())
        highs.append(np.broadcast_to(np.asarray(high, np.float64), leaf.shape).ravel())
        dtypes.append(leaf.dtype)
    dtype = jnp.result_type(*dtypes)
    low, high = (np.concatenate(bounds).astype(dtype) for bounds in (lows, highs))
    return Box(low, high, low.shape, dtype)


def _bounds(spec: Any) -> tuple[Any, Any]:
    if isinstance(spec, specs.BoundedArray):
        return spec.minimum, spec.maximum
    if jnp.issubdtype(spec.dtype, jnp.integer):
        return jnp.iinfo(spec.dtype).min, jnp.iinfo(spec.dtype).max
    return -np.inf, np.inf


def _action_space(name: str, spec: Any) -> tuple[tuple[int, ...], Space]:
    """Return the sizes of several choices at once, none if there is but one, and the space."""
    if isinstance(spec, specs.DiscreteArray):
        return (), Discrete(int(spec.num_values))
    low, high = (np.broadcast_to(bound, spec.shape) for bound in (spec.minimum, spec.maximum))
    if jnp.issubdtype(spec.dtype, jnp.integer):
        sizes = tuple(int(size) for size in (high + 1).ravel())
        return sizes, flatten_choices(f"jumanji::{name}", sizes)
    return (), Box(low.ravel(), high.ravel(), (low.size,), spec.dtype)
