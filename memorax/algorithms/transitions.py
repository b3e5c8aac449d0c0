"""Transitions of the environments, sequences of them, and their targets."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, PyTree

from memorax.algorithms.acting import Timestep, batch_first
from memorax.environments import (
    Environment,
    RecordEpisodeStatistics,
    ShowFinalObservation,
    Vectorize,
)


@struct.dataclass
class Transition:
    """One step of every environment.

    Attributes:
        timestep: The networks' input.
        action: The action taken.
        reward: The reward of the action.
        terminated: True where the action terminated the episode.
        truncated: True where ``timestep`` is the last of an episode that a time limit ended: the
            action meant nothing, but the value of the step is what the steps before bootstrap from.
    """

    timestep: PyTree
    action: PyTree
    reward: PyTree
    terminated: PyTree
    truncated: PyTree


@struct.dataclass
class Sequences:
    """What is learned from: transitions in their order, and all that the networks need to read it.

    All lead with (batch, time) but the carry, which leads with batch.

    Attributes:
        timestep: What the networks read, one step longer than the others: the last one is only
            bootstrapped from.
        action: The action taken.
        reward: The reward of the action.
        terminated: True where the action terminated the episode.
        truncated: True where a step is not to be learned from and returns do not continue.
        carry: The networks' carries before the first step.
    """

    timestep: PyTree
    action: PyTree
    reward: PyTree
    terminated: PyTree
    truncated: PyTree
    carry: PyTree


@struct.dataclass
class Window:
    """The latest transitions of every environment, and the carries that their parts began with.

    Attributes:
        transitions: ``(num_envs, sequence_length, ...)``.
        carries: ``(parts, num_envs, ...)``, before the first step of every part of the window.
    """

    transitions: PyTree
    carries: PyTree


def vectorize(env: Environment, num_envs: int) -> Vectorize:
    """Return copies whose last observation before a time limit is a step of its own.

    Every algorithm handles time limits this way: the networks read the observation in its place,
    its value is what the step before bootstraps from, and nothing is learned from the step. The
    alternative, a second forward pass for the observations cut off, is computed at every step as
    soon as many seeds train at once, since ``jax.vmap`` turns a condition into a choice.
    """
    return Vectorize(ShowFinalObservation(RecordEpisodeStatistics(env)), num_envs)


def take_step(
    envs: Environment, env_params: Any, key: Array, state: Any, carry: PyTree, action: Array
) -> tuple[Any, Transition, dict[str, Any]]:
    """Act once in every environment.

    Args:
        envs: Copies from ``vectorize``.
        env_params: Their parameters.
        key: A PRNG key.
        state: The training state, with ``env_state``, ``timestep`` and ``carry``.
        carry: The networks' carries after the timestep.
        action: Every environment's action.

    Returns:
        The next training state, what happened, and the environments' ``info``.
    """
    observation, env_state, reward, terminated, truncated, info = envs.step(
        key, state.env_state, action, env_params
    )
    transition = Transition(state.timestep, action, reward, terminated, truncated)
    timestep = Timestep(observation, terminated | truncated, action, reward)
    state = replace(state, env_state=env_state, timestep=timestep, carry=carry)
    return state, transition, info


def empty_window(timestep: Timestep, carry: PyTree, sequence_length: int, num_steps: int) -> Window:
    """Return a window of steps that are not to be learned from.

    Args:
        timestep: The environments' first.
        carry: The networks' initial carries.
        sequence_length: Steps of the window, a multiple of ``num_steps``.
        num_steps: Steps that it moves on at a time.
    """
    num_envs = timestep.done.shape[0]
    steps = (num_envs, sequence_length)
    transitions = Transition(
        timestep=jax.tree.map(
            lambda leaf: jnp.zeros((*steps, *leaf.shape[1:]), leaf.dtype), timestep
        ),
        action=jnp.zeros((*steps, *timestep.action.shape[1:]), timestep.action.dtype),
        reward=jnp.zeros(steps, timestep.reward.dtype),
        terminated=jnp.zeros(steps, bool),
        truncated=jnp.ones(steps, bool),
    )
    parts = sequence_length // num_steps
    carries = jax.tree.map(lambda leaf: jnp.repeat(leaf[None], parts, axis=0), carry)
    return Window(transitions, carries)


def move_window(window: Window, transitions: Transition, carry: PyTree) -> Window:
    """Take in the newest transitions and let go of as many of the oldest.

    Args:
        window: The window.
        transitions: The newest, ``(num_steps, num_envs, ...)``.
        carry: The networks' carries before them.
    """
    newest = batch_first(transitions)
    num_steps = newest.reward.shape[1]
    transitions = jax.tree.map(
        lambda old, new: jnp.concatenate([old[:, num_steps:], new], axis=1),
        window.transitions,
        newest,
    )
    carries = jax.tree.map(
        lambda old, new: jnp.concatenate([old[1:], new[None]]), window.carries, carry
    )
    return Window(transitions, carries)


def window_to_sequences(window: Window, timestep: Timestep) -> Sequences:
    """Return the window as sequences.

    Args:
        window: The window.
        timestep: The one after its last step.
    """
    transitions = window.transitions
    return Sequences(
        timestep=jax.tree.map(
            lambda steps, last: jnp.concatenate([steps, last[:, None]], axis=1),
            transitions.timestep,
            timestep,
        ),
        action=transitions.action,
        reward=transitions.reward,
        terminated=transitions.terminated,
        truncated=transitions.truncated,
        carry=jax.tree.map(lambda leaf: leaf[0], window.carries),
    )


def masked_mean(
    values: Float[Array, "batch time"], mask: Bool[Array, "batch time"]
) -> Float[Array, "batch"]:
    """Return each row's mean over the steps of its mask, 0 if there is none."""
    return jnp.where(mask, values, 0).sum(1) / jnp.maximum(mask.sum(1), 1)


def mean_over(mask: Bool[Array, "batch time"]) -> Callable[[Array], Float[Array, ""]]:
    """Return a function that takes the mean of all steps of a mask, 0 if there is none."""
    # Counted once: several devices would have to add up each count.
    count = jnp.maximum(mask.sum(), 1)
    return lambda values: jnp.where(mask, values, 0).sum() / count
