"""The compiled functions of a model: they start, train and evaluate all its seeds."""

import os
import time
from collections.abc import Callable, Sequence
from functools import cache, cached_property, partial
from typing import Any

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree
from rich.console import Console

from memorax.algorithms import Algorithm
from memorax.algorithms.algorithm import Metrics
from memorax.algorithms.evaluation import EvaluationState
from memorax.algorithms.sharding import SEEDS
from memorax.experiments.run.agents import num_updates
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.devices import abstract_state, replicated
from memorax.experiments.run.evaluation import (
    ACTIONS,
    EvaluationProgress,
    Reports,
    evaluation_key,
    play_episodes,
)


class Program:
    """Starts, trains and evaluates all seeds of one model, compiled for some devices.

    Every array of a state leads with (seeds,). ``study.trial_training.TrialsProgram`` does the same
    for several runs side by side, whose arrays lead with (trials, seeds).

    Args:
        mesh: The devices.
        config: The run's configuration.
        model: The model's name.
        agent: Its agent.

    Attributes:
        like: The shapes of the state, and where each of its arrays lives.
        one_run: The same of the state of one run.
        compile_seconds: How long compiling the training has taken so far.
        was_cached: Whether the latest program was found in the cache of compiled programs.
    """

    def __init__(self, mesh: Mesh, config: TrainConfig[Any], model: str, agent: Algorithm):
        self.mesh, self.config, self.agent = mesh, config, agent
        self.total_steps = steps_to_train(config)
        longest = config.checkpoint_every // agent.steps_per_update
        self.chunk_steps = chunk_updates(num_updates(config), longest) * agent.steps_per_update
        self.compile_seconds, self.was_cached = 0.0, False
        self.like = self.one_run = abstract_state(mesh, config, model, agent)
        self._trains: dict[Any, Callable[..., tuple[PyTree, Metrics]]] = {}

    def init(self) -> PyTree:
        """Return the state before the first step, made where it lives."""

        def init(arguments):
            return self._map(
                lambda agent, seed: jax.vmap(agent.init, spmd_axis_name=SEEDS)(self._keys(seed))
            )(arguments)

        with jax.set_mesh(self.mesh):
            placed, options = shardings(self.like), run_once_options()
            return jax.jit(init, out_shardings=placed, compiler_options=options)(self._arguments())

    def train(self, step: int, num_steps: int, state: PyTree) -> tuple[PyTree, Metrics]:
        """Return the state after a chunk of training, and its metrics.

        The random numbers depend on the step, so that a resumed run draws the same. The state is
        donated.

        Args:
            step: Environment steps of each seed before it.
            num_steps: Environment steps of each seed to train.
            state: The state.
        """
        train = self.compiled(num_steps)
        return jax.block_until_ready(train(self._arguments(), np.uint32(step), state))

    def compiled(self, num_steps: int) -> Callable[..., tuple[PyTree, Metrics]]:
        """Return the function that trains for some steps, compiled on the first call."""

        def train(arguments, step, state):
            def one_run(agent, seed, state):
                keys = jax.vmap(lambda key: jax.random.fold_in(key, step))(self._keys(seed))
                chunk = partial(agent.train, num_steps=num_steps)
                return jax.vmap(chunk, spmd_axis_name=SEEDS)(keys, state)

            return self._map(one_run)(arguments, state)

        key = num_steps, self._size()
        if key not in self._trains:
            started, hits = time.perf_counter(), cache_hits()
            with jax.set_mesh(self.mesh):
                placed = shardings(self.like), replicated(self.mesh)
                jitted = jax.jit(train, donate_argnums=2, out_shardings=placed)
                step = jax.ShapeDtypeStruct((), jnp.uint32)
                self._trains[key] = jitted.lower(self._arguments(), step, self.like).compile()
            self.compile_seconds += time.perf_counter() - started
            self.was_cached = cache_hits() > hits
        return self._trains[key]

    def evaluate(
        self,
        state: PyTree,
        title: str,
        console: Console,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> Reports | None:
        """Let every seed play fresh episodes, with its most likely and with sampled actions.

        The episodes depend on the configuration's seed alone, so that every model plays the same,
        with either actions, and a repetition gives the same numbers. One program plays both.

        Args:
            state: The state.
            title: Who is evaluated, for the terminal.
            console: Where to show progress.
            interrupted: Whether to stop, asked every fraction of a second.

        Returns:
            What was seen, or None if it was interrupted.
        """
        begin, play = self._evaluation
        arguments, reports = self._arguments(), []
        with jax.set_mesh(self.mesh):
            for actions, most_likely in ACTIONS.items():
                report = play_episodes(
                    partial(begin, arguments, state),
                    partial(play, arguments, state, np.bool_(most_likely)),
                    self.config,
                    EvaluationProgress(f"{title}, {actions} actions", self.config, console),
                    interrupted,
                )
                if report is None:
                    return None
                reports.append(report)
        return Reports(*reports)

    @cached_property
    def _evaluation(self) -> tuple[Callable[..., EvaluationState], Callable[..., EvaluationState]]:
        """Return the functions that begin and continue the episodes of an evaluation."""

        def begin(arguments, state):
            def one_run(agent, seed, state):
                keys = jax.random.split(evaluation_key(seed), self.config.num_seeds)
                one_seed = partial(
                    agent.begin_evaluation, num_episodes=self.config.evaluation_episodes
                )
                return jax.vmap(one_seed, spmd_axis_name=SEEDS)(keys, state)

            return self._map(one_run)(arguments, state)

        def play(arguments, state, most_likely, episodes, first_step, last_step):
            def one_run(agent, seed, state, episodes):
                return jax.vmap(
                    lambda state, episodes: agent.continue_evaluation(
                        state, episodes, first_step, last_step, most_likely
                    ),
                    spmd_axis_name=SEEDS,
                )(state, episodes)

            return self._map(one_run)(arguments, state, episodes)

        # Every process has to see which episodes have ended; the rest is sharded by seed.
        by_seed = NamedSharding(self.mesh, self._spec(SEEDS))
        placed = EvaluationState(by_seed, replicated(self.mesh), by_seed, by_seed, by_seed)
        return jax.jit(begin, out_shardings=placed), jax.jit(play, out_shardings=placed)

    def stack(self, states: Sequence[PyTree]) -> PyTree:
        """Return the state of all runs, from that of each: there is one."""
        (state,) = states
        return state

    def part(self, tree: PyTree, index: int) -> PyTree:
        """Return the part of one of the runs: everything, since there is one."""
        return tree

    def keep(self, indices: list[int], state: PyTree) -> PyTree:
        """Continue with some of the runs only, and return their state."""
        return state

    def _map(self, one_run: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that calls ``one_run(agent, seed, *trees)`` for every run."""
        return lambda arguments, *trees: one_run(self.agent, self.config.seed, *trees)

    def _arguments(self) -> Any:
        """Return the values that differ between the runs, as arguments of the program."""
        return ()

    def _size(self) -> int:
        return 1

    def _spec(self, *axes: str | None) -> PartitionSpec:
        return PartitionSpec(*axes)

    def _keys(self, seed: Any) -> Array:
        return jax.random.split(jax.random.key(seed), self.config.num_seeds)


@cache
def _counted_hits() -> list[int]:
    """Return the number of programs found in the cache so far, which JAX's events count up."""
    hits = [0]

    def count(event: str, **details: Any) -> None:
        hits[0] += event == "/jax/compilation_cache/cache_hits"

    jax.monitoring.register_event_listener(count)
    return hits


def cache_hits() -> int:
    """Return how many programs were found in the cache since this was first called."""
    return _counted_hits()[0]


def run_once_options() -> dict[str, Any]:
    """Return XLA's options for a program that runs once: on CPU LLVM does not optimise it.

    That halves the time to compile a GRU's first state. ``XLA_FLAGS`` with a level of its own wins.
    A training compiles faster at level 1 as well, but attention's then runs 1.1 times as long.
    """
    name = "xla_backend_optimization_level"
    own = name in os.environ.get("XLA_FLAGS", "")
    return {name: 0} if jax.default_backend() == "cpu" and not own else {}


def shardings(like: PyTree) -> PyTree:
    """Return where each array of a state lives."""
    return jax.tree.map(lambda leaf: leaf.sharding, like)


def steps_to_train(config: TrainConfig[Any]) -> int:
    """Return the environment steps of each seed of a run, whole updates."""
    return num_updates(config) * config.algorithm.num_envs * config.algorithm.num_steps


def chunk_updates(updates: int, longest: int, most_chunks: int = 50) -> int:
    """Return the updates of a chunk: the most that divide the run and give it that many chunks.

    Chunks of one length are compiled once; between chunks a run shows its progress, saves and can
    be stopped.

    Args:
        updates: Those of the run.
        longest: How many at most, if that is one at least.
        most_chunks: How many chunks there are at least, if there are as many updates.
    """
    most = max(1, min(updates // most_chunks, longest))
    return max(size for size in range(1, most + 1) if updates % size == 0)
