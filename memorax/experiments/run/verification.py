"""Comparing an exported program with its agent."""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from memorax.algorithms.policy import PolicyStep
from memorax.environments import Discrete
from memorax.environments.spaces import Space

STEPS = 200
"""More than the 128 steps that attention by name sees, in the last episode alone."""

BEGINNINGS = 0, 3, 40
"""Steps at which an episode begins."""

TOLERANCE = 1e-4
"""Tolerance relative to the largest number of an array, or to 1; single steps differ by 1e-6."""

WIDEST = 1e6
"""Bounds further apart than this are drawn between as if there were none."""


def check_acts_alike(
    program: Callable[..., Sequence[Any]], step: PolicyStep, outputs: Sequence[str]
) -> None:
    """Run a program beside an agent, on random observations.

    Both make each step with the agent's carry, so that rounding does not add up.

    Args:
        program: From the observation's arrays, the carry's, done and, if it is read, the reward,
            to the action and the new carry's arrays.
        step: The agent's step.
        outputs: The names of the program's results.

    Raises:
        ValueError: If a result differs, but for an action that rounding alone makes another: one
            of several that the agent prefers alike.
    """
    rng = np.random.default_rng(0)
    spaces = step.task.observation_space(step.agent.env_params)
    act, carry = jax.jit(step.__call__), step.initial_carry
    close_choices = jax.jit(partial(_close_choices, step))
    for index in range(STEPS):
        observation = jax.tree.map(lambda space: _draw(space, rng), spaces)
        arguments = observation, carry, np.bool_(index in BEGINNINGS)
        if step.reads_reward:
            arguments += (np.float32(rng.normal()),)
        action, carry = act(*arguments)
        expected = [np.asarray(array) for array in (action, *carry)]
        results = [np.asarray(array) for array in program(*jax.tree.leaves(arguments))]
        compared = list(zip(outputs, results, expected, strict=True))
        if not _alike(results[0], expected[0]) and any(
            np.array_equal(results[0], choice) for choice in close_choices(*arguments)
        ):
            # The last array of the carry is the action again.
            compared = compared[1:-1]
        for name, result, right in compared:
            if not _alike(result, right):
                raise ValueError(f"at step {index} of a trial its {name} is not the agent's")


def as_rows(
    program: Callable[..., Sequence[Any]], batch_sizes: Sequence[int], ranks: Sequence[int]
) -> Callable[..., Sequence[Any]]:
    """Return a program of a batch as one of a single row, each call another one of the batch.

    The other rows are those of calls before, so that a program that mixes rows acts differently.

    Args:
        program: All that it takes and returns leads with the batch.
        batch_sizes: Rows of the batch, of one call after the other by turns.
        ranks: The number of axes of each of its inputs.
    """
    rows: list[Sequence[np.ndarray]] = []
    calls, sizes = itertools.count(), itertools.cycle(batch_sizes)

    def run(*arrays: Any) -> list[np.ndarray]:
        own = [np.asarray(array) for array in arrays]
        size = next(sizes)
        row = next(calls) % size
        if not rows:
            rows.extend([own] * max(batch_sizes))
        rows[row] = own
        columns = zip(*rows[:size], strict=True)
        # A carry has an axis of one environment already.
        action, *carry = program(
            *(
                np.concatenate(column) if column[0].ndim == rank else np.stack(column)
                for column, rank in zip(columns, ranks, strict=True)
            )
        )
        return [np.asarray(action[row]), *(np.asarray(array[row : row + 1]) for array in carry)]

    return run


def _draw(space: Space, rng: np.random.Generator) -> np.ndarray:
    """Return an element of a space."""
    if isinstance(space, Discrete):
        return np.asarray(rng.integers(space.n), np.int32)
    low, high = (
        np.broadcast_to(np.asarray(bound, float), space.shape) for bound in (space.low, space.high)
    )
    whole = not jnp.issubdtype(space.dtype, jnp.floating)
    narrow = high < low + WIDEST
    uniform = rng.uniform(np.where(narrow, low, 0), np.where(narrow, high + whole, 1))
    drawn = np.where(narrow, uniform, np.clip(rng.normal(size=space.shape), low, high))
    return np.asarray(np.floor(drawn) if whole else drawn).astype(space.dtype)


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Return whether two arrays are the same up to rounding."""
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    if not jnp.issubdtype(one.dtype, jnp.floating):
        return np.array_equal(one, other)
    one, other = one.astype(float), other.astype(float)
    scale = np.abs(other).max(initial=1, where=np.isfinite(other))
    return np.allclose(one, other, rtol=0, atol=TOLERANCE * scale, equal_nan=True)


def _close_choices(step: PolicyStep, *arguments: PyTree) -> Array:
    """Return actions that the head's output chooses when it changes by no more than rounding."""
    _, output = step.read(*arguments)

    def choose(key):
        def changed(leaf):
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                return leaf
            scale = TOLERANCE * jnp.maximum(1, jnp.abs(leaf).max()).astype(leaf.dtype)
            return leaf + scale * jax.random.uniform(key, leaf.shape, leaf.dtype, -1, 1)

        return step.choose(jax.tree.map(changed, output))[0]

    return jax.vmap(choose)(jax.random.split(jax.random.key(0), 64))
