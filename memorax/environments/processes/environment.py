"""Environments in separate processes, behind callbacks, for programs in JAX."""

import contextlib
import dataclasses
import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, PyTree

from memorax.environments.checks import check_action
from memorax.environments.environment import Environment, Frame, Step
from memorax.environments.holding import Holdable
from memorax.environments.processes import pool as process_pool
from memorax.environments.processes.pool import (
    EnvironmentProcessError,
    InvalidActionError,
    ProcessTask,
)
from memorax.environments.spaces import Space, structure
from memorax.host_calls import mappable


@struct.dataclass
class ProcessState(Holdable):
    """Which environment an observation came from, and when.

    Attributes:
        number: The environment's number.
        time: Steps that it has taken.
        held: Whether the next step is skipped; its output is undefined then.
        observation: The latest observation.
    """

    number: PyTree
    time: PyTree
    held: PyTree
    observation: PyTree


class ProcessEnvironment(Environment):
    """A task whose environments run in processes.

    However it is mapped, all copies are stepped in a single callback. The innermost axis are
    environments side by side, which share processes; each row of them, such as a seed, has
    processes of its own, and so has every evaluation. Callbacks happen in the order of an
    environment's steps, since each reads the state that the one before it returned; those that
    JAX itself can order cannot be mapped.

    A step of these environments cannot be taken back. A state that is not its environment's
    latest, because a run was resumed or the state is used a second time, continues in a new
    environment: the episode counts as truncated where it stood, with a reward of 0.

    Args:
        task: The task.
        observation_space: The space of its observations.
        action_space: The space of its actions.
    """

    def __init__(self, task: ProcessTask, observation_space: PyTree, action_space: Space):
        self._task = task
        self._observation_space = observation_space
        self._action_space = action_space
        observation, flag, count = structure(observation_space), ((), bool), ((), jnp.int32)
        self._reset = mappable(self._reset_processes, [count, *_leaves(observation)])
        self._step = mappable(
            self._step_processes,
            [
                *(count, count, *_leaves(observation), *_leaves(observation)),
                *(((), jnp.float32), flag, flag, flag),
            ],
        )

    def _reset_processes(self, seeds: np.ndarray) -> list[np.ndarray]:
        number, observation = process_pool.reset(self._task, seeds)
        return [number, *_arrays(observation)]

    def _step_processes(self, *arguments: np.ndarray) -> list[np.ndarray]:
        number, time, observation, final_observation, *rest = process_pool.step(
            self._task, *arguments
        )
        return [number, time, *_arrays(observation), *_arrays(final_observation), *rest]

    def _joined(self, arrays: Sequence[Any]) -> PyTree:
        return jax.tree.unflatten(jax.tree.structure(self._observation_space), arrays)

    @property
    def name(self) -> str:
        """The name that the suite gives it."""
        return self._task.name.partition("::")[2]

    def reset(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Begin an episode in a new environment."""
        number, *arrays = self._reset(_seed(key))
        observation = self._joined(arrays)
        return observation, ProcessState(number, jnp.int32(0), jnp.bool_(False), observation)

    def step(self, key: Array, state: PyTree, action: Array, params: Any) -> Step:
        """Act once; the process resets by itself and keeps the last observation.

        Raises:
            ValueError: If the action is outside of the action space; compiled programs stop with
                JAX's own error, whose message holds this one.
        """
        check_action(self.name, self._action_space, action)
        number, time, *arrays, reward, terminated, truncated, renewed = self._step(
            state.number, state.time, state.held, action, _seed(key)
        )
        observation = self._joined(arrays[: len(arrays) // 2])
        final_observation = jax.tree.map(
            partial(jnp.where, renewed),
            state.observation,
            self._joined(arrays[len(arrays) // 2 :]),
        )
        state = ProcessState(number, time, jnp.bool_(False), observation)
        info = {"final_observation": final_observation}
        return observation, state, reward, terminated, truncated, info

    def encode(self, observation: Any) -> PyTree:
        """Return what this environment shows where Gymnasium's own shows ``observation``.

        Raises:
            ValueError: If it is not an element of the Gymnasium space, such as an array of
                another shape or dtype.
        """
        self._task.check(observation, True)
        return self._joined(_arrays(np.asarray(self._task.encode(observation), self._task.dtype)))

    def decode(self, action: np.ndarray) -> Any:
        """Return what Gymnasium's own environment takes for an action of this one.

        Raises:
            ValueError: If the action is outside of the action space.
        """
        return self._task.decode(action)

    def with_rendering(self) -> Environment:
        """Return the environment whose processes draw, if they can."""
        if not self._task.draws:
            return self
        drawing = dict(self._task.params) | {"render_mode": "rgb_array"}
        task = dataclasses.replace(self._task, params=drawing)
        return ProcessEnvironment(task, self._observation_space, self._action_space)

    def render_frame(self, state: PyTree, params: Any) -> Frame | None:
        """Return the process's frame of its latest state, if it renders.

        Raises:
            EnvironmentProcessError: If it fails to.
            ValueError: If the frame is not an image.
        """
        if self._task.params.get("render_mode") != "rgb_array":
            return None
        frame = np.asarray(process_pool.render(int(state.number)))
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise ValueError(
                f"{self._task.name} must draw uint8 of shape (height, width, 3), got "
                f"{frame.dtype} of shape {frame.shape}"
            )
        return frame

    def observation_space(self, params: Any) -> PyTree:
        """Return the space of observations."""
        return self._observation_space

    def action_space(self, params: Any) -> Space:
        """Return the space of actions."""
        return self._action_space


def release(state: PyTree) -> None:
    """End the processes of environments that are not stepped again.

    Args:
        state: Any pytree with states of environments in it. Those in pure JAX have nothing to
            release.
    """
    for node in jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, ProcessState)):
        if isinstance(node, ProcessState):
            _release(node.number)


def runs_in_processes(state: PyTree) -> bool:
    """Return whether a state has environments in it that run in processes.

    No checkpoint holds these: after a restart each begins a new episode.

    Args:
        state: Any pytree, with states of environments in it or without.
    """
    nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, ProcessState))
    return any(isinstance(node, ProcessState) for node in nodes)


def process_failure(error: BaseException) -> str | None:
    """Return the message of the environment's process that stopped a program, or ``None``.

    Args:
        error: The error; JAX keeps only the message of an error in a callback.
    """
    _, found, message = str(error).partition(f"{EnvironmentProcessError.__name__}: ")
    return message.strip() if found else None


@contextlib.contextmanager
def invalid_actions_unlogged() -> Iterator[None]:
    """Hide JAX's trace of an invalid action, which is reported in one line."""

    def says_more(record: logging.LogRecord) -> bool:
        return not record.exc_info or not isinstance(record.exc_info[1], InvalidActionError)

    logger = logging.getLogger("jax._src.callback")
    logger.addFilter(says_more)
    try:
        yield
    finally:
        logger.removeFilter(says_more)


def invalid_action(error: BaseException) -> str | None:
    """Return the message about an invalid action if that stopped a program, else None.

    Args:
        error: The error; JAX keeps only the message of an error in a callback.
    """
    _, found, message = str(error).partition(f"{InvalidActionError.__name__}: ")
    return message.strip().splitlines()[0] if found else None


def _leaves(observation: PyTree) -> list[tuple[tuple[int, ...], Any]]:
    """Return the shape and dtype of each array of an observation."""
    return [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(observation)]


def _arrays(observation: np.ndarray) -> list[np.ndarray]:
    """Return the arrays of observations; those of several parts are records of NumPy's."""
    names = observation.dtype.names
    return [observation] if names is None else [observation[name] for name in names]


def _seed(key: Array) -> Array:
    return (jax.random.bits(key, (), jnp.uint32) >> 1).astype(jnp.int32)


_release = mappable(lambda numbers: [process_pool.release(numbers)], [((), jnp.int32)])
