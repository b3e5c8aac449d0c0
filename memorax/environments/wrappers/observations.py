"""Wrappers that change observations, most of which make a task partially observed."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from memorax.environments.environment import Environment, Step
from memorax.environments.spaces import Box, Discrete, flat_space, flatten
from memorax.environments.wrappers.base import LARGEST_FLOAT, Wrapper
from memorax.validation import check_between, check_integer

# Far from the few keys that environments split from the same one, which stay as they are without
# the wrapper.
_FIRST, _FINAL = 2**31, 2**31 + 1


class ObservationWrapper(Wrapper):
    """Change each observation independently, including an episode's last, as subclasses define.

    Attributes:
        is_random: Whether ``observe`` uses its key.
    """

    is_random = False

    def observe(self, key: Array, observation: PyTree, params: Any) -> PyTree:
        """Return the changed observation."""
        raise NotImplementedError(f"{type(self).__name__} must implement observe")

    def reset(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return the first observation of an episode and the state."""
        observation, state = self.env.reset(key, params)
        return self.observe(jax.random.fold_in(key, _FIRST), observation, params), state

    def step(self, key: Array, state: PyTree, action: Array, params: Any) -> Step:
        """Act once."""
        observation, state, reward, terminated, truncated, info = self.env.step(
            key, state, action, params
        )
        first_key, final_key = (jax.random.fold_in(key, data) for data in (_FIRST, _FINAL))
        final_observation = self.observe(final_key, info["final_observation"], params)
        observation = where(
            terminated | truncated,
            self.observe(first_key, observation, params),
            final_observation,
        )
        info = {**info, "final_observation": final_observation}
        return observation, state, reward, terminated, truncated, info


class FlattenObservation(ObservationWrapper):
    """Show every observation as a vector: arrays flattened, a category one-hot, parts joined.

    Examples:
        >>> wrapped = FlattenObservation(env)
        >>> observation, state = wrapped.reset(key, params)
        >>> observation.shape
        (2,)
    """

    def observe(self, key: Array, observation: PyTree, params: Any) -> PyTree:
        """Return the vector."""
        return flatten(self.env.observation_space(params), observation)

    def observation_space(self, params: Any) -> Box:
        """Return the space of flat observations."""
        return flat_space(self.env.observation_space(params))


class MaskObservation(ObservationWrapper):
    """Remove elements of a vector observation, such as velocities.

    Args:
        env: The environment to wrap; its observations are vectors.
        hidden: Indices of the elements to remove.

    Raises:
        ValueError: If an index is negative or none is left out; later, if an observation is no
            vector, or has no element of an index or no other.

    Examples:
        >>> wrapped = MaskObservation(env, hidden=(0,))
        >>> observation, state = wrapped.reset(key, params)
        >>> observation.shape
        (1,)
    """

    def __init__(self, env: Environment, hidden: tuple[int, ...]):
        super().__init__(env)
        indices = tuple(hidden) if isinstance(hidden, tuple | list) else ()
        for index in indices:
            check_integer("each of MaskObservation.hidden", index, 0)
        if not indices or len(set(indices)) < len(indices):
            raise ValueError(
                "MaskObservation.hidden must be a tuple of different indices, at least one, "
                f"got {hidden!r}"
            )
        self._hidden = indices

    def _shown(self, params: Any) -> tuple[Any, Any]:
        space: Any = self.env.observation_space(params)
        shape = getattr(space, "shape", ())
        if len(shape) != 1 or not max(self._hidden) < shape[0] > len(self._hidden):
            raise ValueError(
                f"MaskObservation.hidden must be indices of a vector that leave some of it, got "
                f"{self._hidden} for {space}"
            )
        return space, np.setdiff1d(np.arange(shape[0]), self._hidden)

    def observe(self, key: Array, observation: PyTree, params: Any) -> PyTree:
        """Return the elements that are not hidden."""
        return observation[self._shown(params)[1]]

    def observation_space(self, params: Any) -> Box:
        """Return the space of the remaining elements."""
        space, shown = self._shown(params)
        low, high = (
            np.broadcast_to(np.asarray(bound), space.shape)[shown]
            for bound in (space.low, space.high)
        )
        return type(space)(low, high, (len(shown),), space.dtype)


class FlickerObservation(ObservationWrapper):
    """Replace an observation by zeros with a probability, drawn independently at every step.

    Args:
        env: The environment to wrap.
        probability: Probability of zeros, from 0 to 1.

    Raises:
        ValueError: If the probability is out of its range.

    Source: Hausknecht and Stone 2015, arXiv 1507.06527, section 5 (with probability 0.5).

    Examples:
        >>> wrapped = FlickerObservation(env, probability=1.0)
        >>> observation, state = wrapped.reset(key, params)
        >>> observation.tolist()
        [0.0, 0.0]
    """

    is_random = True

    def __init__(self, env: Environment, probability: float = 0.5):
        super().__init__(env)
        check_between("FlickerObservation.probability", probability, 0.0, 1.0)
        self._probability = probability

    def observe(self, key: Array, observation: PyTree, params: Any) -> PyTree:
        """Return the observation or zeros."""
        nothing = jax.random.bernoulli(key, self._probability)
        return where(nothing, jax.tree.map(jnp.zeros_like, observation), observation)

    def observation_space(self, params: Any) -> PyTree:
        """Return the space of observations, with zero in it."""

        def with_zero(space):
            if isinstance(space, Discrete):
                return space
            low, high = np.minimum(space.low, 0), np.maximum(space.high, 0)
            return type(space)(low, high, space.shape, space.dtype)

        return jax.tree.map(with_zero, self.env.observation_space(params))


class NoisyObservation(ObservationWrapper):
    """Add normal noise to every element of an observation, drawn independently at every step.

    Integers become floating-point numbers.

    Args:
        env: The environment to wrap; its observations are arrays.
        scale: The noise's standard deviation, at least 0.

    Raises:
        ValueError: If the scale is out of its range; later, if an observation is a choice.

    Examples:
        >>> wrapped = NoisyObservation(env, scale=0.1)
        >>> observation, state = wrapped.reset(key, params)
        >>> observation.shape
        (2,)
    """

    is_random = True

    def __init__(self, env: Environment, scale: float):
        super().__init__(env)
        check_between("NoisyObservation.scale", scale, 0.0, LARGEST_FLOAT)
        self._scale = float(scale)

    def observe(self, key: Array, observation: PyTree, params: Any) -> PyTree:
        """Return the observation and noise."""
        space = array_space("NoisyObservation", self.env.observation_space(params))
        observation = observation.astype(_floating(space))
        noise = jax.random.normal(key, observation.shape, observation.dtype)
        return observation + self._scale * noise

    def observation_space(self, params: Any) -> Box:
        """Return the space of observations, without bounds."""
        space = array_space("NoisyObservation", self.env.observation_space(params))
        return Box(-np.inf, np.inf, space.shape, _floating(space))


class ShowPreviousInputs(Wrapper):
    """Append the previous action and reward to a vector observation, as in RL².

    Discrete actions are one-hot, and integer observations become floating-point numbers. At an
    episode's first step zeros are appended. A network whose feature extractor reads actions and
    rewards does not need this wrapper; one of another library may.

    Args:
        env: The environment to wrap; its observations are vectors.

    Raises:
        ValueError: At the first use, if observations are not vectors.

    Examples:
        >>> wrapped = ShowPreviousInputs(env)
        >>> observation, state = wrapped.reset(key, params)
        >>> observation.shape
        (5,)
    """

    def _vector(self, params: Any) -> Box:
        space = self.env.observation_space(params)
        if len(getattr(space, "shape", ())) != 1:
            raise ValueError(
                f"ShowPreviousInputs needs observations that are vectors, got {space}; "
                "FlattenObservation makes one of any observation"
            )
        return space

    def _size(self, params):
        space = self.env.action_space(params)
        return space.n if isinstance(space, Discrete) else math.prod(space.shape)

    def _appended(self, observation, action, reward, params):
        dtype = _floating(self._vector(params))
        return jnp.concatenate([observation, action, jnp.asarray(reward)[None]]).astype(dtype)

    def reset(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return the first observation of an episode and the state."""
        observation, state = self.env.reset(key, params)
        return self._appended(observation, jnp.zeros(self._size(params)), 0.0, params), state

    def step(self, key: Array, state: PyTree, action: Array, params: Any) -> Step:
        """Act once."""
        observation, state, reward, terminated, truncated, info = self.env.step(
            key, state, action, params
        )
        space = self.env.action_space(params)
        action = (
            jax.nn.one_hot(action, space.n)
            if isinstance(space, Discrete)
            else jnp.reshape(action, -1)
        )
        final_observation = self._appended(info["final_observation"], action, reward, params)
        first = self._appended(observation, jnp.zeros_like(action), 0.0, params)
        observation = jnp.where(terminated | truncated, first, final_observation)
        info = {**info, "final_observation": final_observation}
        return observation, state, reward, terminated, truncated, info

    def observation_space(self, params: Any) -> Box:
        """Return the space of the longer vectors; rewards are unbounded."""
        space = self._vector(params)
        actions = self.env.action_space(params)
        size = self._size(params)
        low, high = (0.0, 1.0) if isinstance(actions, Discrete) else (actions.low, actions.high)

        def bounds(observation, action, reward):
            action = np.broadcast_to(np.asarray(action), getattr(actions, "shape", (size,)))
            return np.concatenate(
                [np.broadcast_to(observation, space.shape), action.reshape(-1), [reward]]
            )

        return Box(
            bounds(space.low, low, -np.inf),
            bounds(space.high, high, np.inf),
            (space.shape[0] + size + 1,),
            _floating(space),
        )


def array_space(wrapper: str, space: PyTree) -> Box:
    """Return the space of observations that a wrapper takes for arrays.

    Raises:
        ValueError: If they are categories or have several parts.
    """
    if not isinstance(space, Box):
        raise ValueError(
            f"{wrapper} needs observations that are arrays, got {space}; FlattenObservation makes "
            "one of any observation"
        )
    return space


def _floating(space: Box) -> Any:
    """Return the dtype for a box's elements where they become no integers."""
    return space.dtype if jnp.issubdtype(space.dtype, jnp.floating) else jnp.float32


def where(condition: Array, one: PyTree, other: PyTree) -> PyTree:
    """Choose between two trees as a whole."""
    return jax.tree.map(lambda one, other: jnp.where(condition, one, other), one, other)
