"""Calling back to the host while training."""

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from memorax.host_calls import mappable

REPORTS = 100
"""The most reports of a training."""


@dataclass(frozen=True)
class TrainingProgress:
    """How far ``agent.train`` is, as its ``callback`` receives it.

    Attributes:
        step: Environment steps of this call so far, of each seed.
        num_steps: Environment steps of the whole call.
        metrics: The metrics of the updates since the last report, NumPy arrays of shape
            ``(updates,)``; under ``jax.vmap`` over seeds ``(seeds, updates)``.

    Examples:
        >>> head = heads.ActorCritic(heads.Categorical(2), heads.VNetwork())
        >>> config = PPOConfig(num_envs=4, num_steps=8)
        >>> agent = PPO(config, env, env_params, network(head), None, optax.adam(1e-3))
        >>> state, metrics = agent.train(
        ...     key, agent.init(key), 64, lambda progress: print(progress.step)
        ... )
        32
        64
    """

    step: int
    num_steps: int
    metrics: dict[str, np.ndarray]


Callback = Callable[[TrainingProgress], Any]


class CallbackFailedError(Exception):
    """A callback raised an exception, which stops the program that called it."""


class Reporter:
    """The host's side of a program that reports: one for each program, whatever its callbacks."""

    def __init__(self, callback: Callback | None = None):
        self.callback = callback
        self.error: BaseException | None = None

    def run(self, callback: Callback, train: Callable[[], PyTree]) -> PyTree:
        """Return what ``train`` does, call ``callback`` meanwhile, and raise what it raises.

        A callback that is a context manager, such as a progress bar, is entered.
        """
        self.callback, self.error = callback, None
        logger = logging.getLogger("jax._src.callback")
        logger.addFilter(_is_of_no_callback)
        entered = isinstance(callback, contextlib.AbstractContextManager)
        try:
            with callback if entered else contextlib.nullcontext():
                return jax.block_until_ready(train())
        except jax.errors.JaxRuntimeError:
            if self.error is None:
                raise
            raise self.error from None
        finally:
            logger.removeFilter(_is_of_no_callback)
            self.callback = self.error = None

    def report(self, progress: TrainingProgress) -> None:
        """Call the callback."""
        assert self.callback is not None
        try:
            self.callback(progress)
        except BaseException as error:
            self.error = error
            raise CallbackFailedError(f"{type(error).__name__}: {error}") from error


def _is_of_no_callback(record: logging.LogRecord) -> bool:
    return not record.exc_info or not isinstance(record.exc_info[1], CallbackFailedError)


def scan_and_report(
    update: Callable[[PyTree, Array], tuple[PyTree, dict[str, Array]]],
    state: PyTree,
    keys: Array,
    steps_per_update: int,
    reporter: Reporter,
) -> tuple[PyTree, dict[str, Array]]:
    """Return what ``jax.lax.scan`` does, and report its outputs on the way.

    Args:
        update: Maps a state and a key to the next state and metrics.
        state: The first state.
        keys: A key for each update.
        steps_per_update: Environment steps of an update.
        reporter: What is called at most ``REPORTS`` times.
    """
    num_updates = len(keys)
    updates_per_report = -(-num_updates // REPORTS)
    _, metrics = jax.eval_shape(update, state, keys[0])
    names = list(metrics)

    def on_host(stop: np.ndarray, *values: np.ndarray) -> list[np.ndarray]:
        # All seeds are at the same update.
        num_trained = int(stop.flat[0])
        last = (num_trained - 1) % updates_per_report + 1
        reporter.report(
            TrainingProgress(
                num_trained * steps_per_update,
                num_updates * steps_per_update,
                {name: value[..., :last] for name, value in zip(names, values, strict=True)},
            )
        )
        return []

    report = mappable(on_host, [])

    def train_and_report(state: PyTree, start: Array) -> tuple[PyTree, dict[str, Array]]:
        def store(index, state_and_stored):
            state, stored = state_and_stored
            state, metrics = update(state, keys[index])
            stored = jax.tree.map(
                lambda array, value: array.at[index - start].set(value), stored, metrics
            )
            return state, stored

        stored = {
            name: jnp.zeros((updates_per_report, *value.shape), value.dtype)
            for name, value in metrics.items()
        }
        stop = jnp.minimum(start + updates_per_report, num_updates)
        # One loop for a last, shorter part as well: it would be compiled a second time.
        state, stored = jax.lax.fori_loop(start, stop, store, (state, stored))
        report(stop, *(stored[name] for name in names))
        return state, stored

    starts = jnp.arange(0, num_updates, updates_per_report)
    state, stored = jax.lax.scan(train_and_report, state, starts)
    return state, jax.tree.map(
        lambda values: values.reshape(-1, *values.shape[2:])[:num_updates], stored
    )
