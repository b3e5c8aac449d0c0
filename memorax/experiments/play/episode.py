"""Episodes of a trained agent, with its observation, action and memory in each step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from memorax.algorithms.policy import PolicyStep
from memorax.environments import release
from memorax.environments.environment import Frame
from memorax.experiments.play.text import observation_frame, observation_text

Memory = Float[np.ndarray, "units steps"]


@dataclass(frozen=True)
class Moment:
    """One step of an episode.

    Attributes:
        text: The observation, in characters.
        frame: The task's rendering; None without one.
        action: The action.
        reward: Its reward.
        episode_return: The sum of the episode's rewards up to and with it.
    """

    text: str
    frame: Frame | None
    action: np.ndarray
    reward: float
    episode_return: float


@dataclass(frozen=True)
class Episode:
    """An episode, or its beginning.

    Attributes:
        task: The task's name.
        moments: Its steps.
        memory: What each unit of the memory was after each step had been seen; complex numbers by
            their magnitude, integers and marks left out.
        ended: False if it was truncated after the steps that were asked for.
        inputs: What the network read, a ``Timestep`` whose arrays lead with (1, time).
    """

    task: str
    moments: list[Moment]
    memory: Memory
    ended: bool
    inputs: Any = None


class Player:
    """Lets an agent play episodes with its most likely or most valued actions.

    Args:
        step: The agent's step.
        task: The task's name.
        draw: Whether to have the task draw, where it can.
    """

    def __init__(self, step: PolicyStep, task: str, draw: bool):
        self.step = step
        self._name = task
        self._draw = draw
        self._params = step.agent.env_params
        self._task = step.task.with_rendering() if draw else step.task
        self._act = jax.jit(step.__call__)
        self._read = jax.jit(step.timestep)
        self._advance = jax.jit(
            lambda key, state, action: self._task.step(key, state, action, self._params)
        )

    def play(
        self, key: Array, max_steps: int, show_step: Callable[[int], None] = lambda step: None
    ) -> Episode:
        """Play an episode, at most so many steps of it.

        Args:
            key: A PRNG key.
            max_steps: Where an episode that has not ended is truncated.
            show_step: Called with the number of steps so far, before each.
        """
        reset_key, key = jax.random.split(key)
        observation, state = self._task.reset(reset_key, self._params)
        carry, done, reward, total = self.step.initial_carry, True, 0.0, 0.0
        moments, memory, inputs, ended = [], [], [], False
        while not ended and len(moments) < max_steps:
            show_step(len(moments))
            text, frame = self._look(observation, state)
            earned = jnp.float32(reward) if self.step.reads_reward else None
            observation = jax.tree.map(jnp.asarray, observation)
            inputs.append(self._read(observation, carry, jnp.bool_(done), earned))
            action, carry = self._act(observation, carry, jnp.bool_(done), earned)
            memory.append(_units(self.step.memory(carry)))
            observation, state, reward, terminated, truncated, _ = self._advance(
                jax.random.fold_in(key, len(moments)), state, action
            )
            total += float(reward)
            moments.append(Moment(text, frame, np.asarray(action), float(reward), total))
            done, ended = False, bool(terminated | truncated)
        release(state)
        read = jax.tree.map(lambda *steps: np.stack(steps, axis=1), *inputs)
        return Episode(self._name, moments, np.stack(memory, axis=1), ended, read)

    def _look(self, observation: Any, state: PyTree) -> tuple[str, Frame | None]:
        space = self._task.observation_space(self._params)
        frame = None
        if self._draw:
            frame = self._task.render_frame(state, self._params)
            if frame is None:
                frame = observation_frame(observation, space)
        text = self._task.render_text(state, self._params)
        if text is None:
            text = observation_text(observation, space)
        return text, frame


def _units(memory: PyTree) -> np.ndarray:
    leaves = [np.asarray(leaf).ravel() for leaf in jax.tree.leaves(memory)]
    leaves = [np.abs(leaf) if np.iscomplexobj(leaf) else leaf for leaf in leaves]
    values = [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return np.concatenate([np.zeros(0), *values], dtype=np.float64)


@dataclass(frozen=True)
class Activity:
    """Some units of a memory over an episode, as they are shown.

    Attributes:
        shares: Each unit's way from its lowest (0) to its highest value (1) in the episode; NaN
            where it is not finite.
        caption: Which units they are.
    """

    shares: Memory
    caption: str


def activity(memory: Memory, most_units: int) -> Activity:
    """Return the units of a memory that vary most over an episode, in their own order.

    Args:
        memory: The units' values.
        most_units: How many to show at most.
    """
    if not len(memory):
        return Activity(memory, "no memory")
    finite = np.where(np.isfinite(memory), memory, np.nan)
    known = np.isfinite(memory).any(axis=1)
    spread = np.zeros(len(memory))
    spread[known] = np.nanmax(finite[known], axis=1) - np.nanmin(finite[known], axis=1)
    variance = np.zeros(len(memory))
    variance[known] = np.nanvar(finite[known], axis=1)
    chosen = np.sort(np.argsort(-variance, kind="stable")[:most_units])
    values, spread = finite[chosen], spread[chosen, None]
    lowest = np.fmin.reduce(values, axis=1, keepdims=True)
    shares = (values - lowest) / np.where(spread > 0, spread, 1)
    of_all = (
        f"all {len(memory)} units"
        if len(chosen) == len(memory)
        else f"the {len(chosen)} of {len(memory)} units that vary most"
    )
    return Activity(shares, f"{of_all}, each from its lowest to its highest")
