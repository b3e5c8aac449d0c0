"""What every algorithm does alike: train in updates, and evaluate on fresh episodes."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jaxtyping import Array, PyTree

from memorax.algorithms.acting import apply_step
from memorax.algorithms.evaluation import EvaluationReport, evaluate
from memorax.dtypes import strongly_typed
from memorax.environments import Environment, Vectorize
from memorax.networks import Network
from memorax.validation import check_positive

Metrics = dict[str, Array]


class Algorithm:
    """The base class of algorithms: an update is a bit of acting and the learning from it.

    A subclass sets ``env``, ``env_params`` and ``_envs``, the copies that it trains on, and
    implements what raises ``NotImplementedError`` here. Its state is one pytree with all that going
    on needs, and its methods are pure.
    """

    env: Environment
    env_params: Any
    _envs: Vectorize

    @property
    def steps_per_update(self) -> int:
        """Environment steps between updates, over all environments."""
        raise NotImplementedError(f"{type(self).__name__} must implement steps_per_update")

    @property
    def batch_sequences(self) -> int:
        """Sequences that a gradient step learns from."""
        raise NotImplementedError(f"{type(self).__name__} must implement batch_sequences")

    def init(self, key: Array) -> PyTree:
        """Return the state before the first step."""
        raise NotImplementedError(f"{type(self).__name__} must implement init")

    def _update(self, state: Any, key: Array) -> tuple[Any, Metrics]:
        """Act, then learn."""
        raise NotImplementedError(f"{type(self).__name__} must implement _update")

    def policy(
        self, state: Any, deterministic: bool
    ) -> tuple[Network, PyTree, Callable[[Array, Any], Array]]:
        """Return the network that acts, its parameters, and (key, its output) -> action."""
        raise NotImplementedError(f"{type(self).__name__} must implement policy")

    @partial(jax.jit, static_argnames=("self", "num_steps"))
    def train(self, key: Array, state: Any, num_steps: int) -> tuple[Any, Metrics]:
        """Train for the fewest whole updates that make up ``num_steps`` environment steps.

        Args:
            key: A PRNG key.
            state: Where to go on from.
            num_steps: Environment steps, over all environments. Static under ``jax.jit``.

        Returns:
            The new state and metrics, one entry an update. The mean ``episode_return`` and
            ``episode_length`` are over the ``num_episodes`` that ended in an update, NaN if none
            did.

        Raises:
            ValueError: If ``num_steps`` is not positive.
        """
        check_positive(f"{type(self).__name__}.train: num_steps", num_steps)
        num_updates = -(-num_steps // self.steps_per_update)
        keys = jax.random.split(key, num_updates)
        # Else what comes out would be compiled for again when it goes in.
        state, metrics = jax.lax.scan(self._update, strongly_typed(state), keys)
        return strongly_typed(state), metrics

    @partial(jax.jit, static_argnames=("self", "num_episodes", "deterministic", "max_steps"))
    def evaluate(
        self,
        key: Array,
        state: Any,
        num_episodes: int,
        deterministic: bool = True,
        max_steps: int = 100_000,
    ) -> EvaluationReport:
        """Play fresh episodes; the training state is only read.

        Args:
            key: A PRNG key.
            state: Whose parameters to play with.
            num_episodes: How many episodes, each in an environment of its own. Static.
            deterministic: Take the most likely or most valued action instead of exploring as at
                the end of training.
            max_steps: Where an episode without end is given up, which the report says.

        Raises:
            ValueError: If ``num_episodes`` or ``max_steps`` is not positive.
        """
        check_positive(f"{type(self).__name__}.evaluate: num_episodes", num_episodes)
        check_positive(f"{type(self).__name__}.evaluate: max_steps", max_steps)
        network, params, choose = self.policy(state, deterministic)

        def act(key, timestep, carry):
            carry, output = apply_step(network, params, timestep, carry)
            return carry, choose(key, output)[:, 0]

        carry = network.initialize_carry(num_episodes)
        env = self._env_for_evaluation(state.env_state)
        return evaluate(act, carry, env, self.env_params, key, num_episodes, max_steps)

    def _env_for_evaluation(self, state: PyTree) -> Environment:
        """Return the environment as training has left it, out of what the algorithm wraps it in."""
        env: Any = self._envs
        while env is not self.env:
            env, state = env.env, env.inner_state(state)
        return self.env.for_evaluation(state)
