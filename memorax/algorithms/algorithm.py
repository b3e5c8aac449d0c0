"""The base of every algorithm: train in updates, and evaluate on fresh episodes."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, PyTree

from memorax.algorithms import evaluation
from memorax.algorithms.acting import apply_step
from memorax.algorithms.checks import check_key
from memorax.algorithms.evaluation import EvaluationReport, EvaluationState
from memorax.algorithms.policy import Policy, PolicyStep
from memorax.algorithms.reporting import Callback, Reporter, scan_and_report
from memorax.algorithms.saving import seeds_of
from memorax.dtypes import strongly_typed
from memorax.environments import Environment, Vectorize, adapt, release
from memorax.networks import Network
from memorax.networks.sequence_models.base import check_callable
from memorax.validation import check_positive

Metrics = dict[str, Array]


class Algorithm:
    """The base class of algorithms: an update is a bit of acting and the learning from it.

    A subclass sets ``_envs``, the copies that it trains on, and implements what raises
    ``NotImplementedError`` here. Its state is one pytree with all that resuming needs, and its
    methods are pure.

    An algorithm is a pytree too, whose leaves are the real numbers of its configuration: it may be
    made with tracers in their place, or be an argument of ``jax.jit`` and ``jax.vmap``. ``init``,
    ``train`` and ``evaluate`` are compiled once for each instance, and the programs are freed with
    it.

    Args:
        config: The hyperparameters, a dataclass decorated with ``hyperparameters``.
        env: An ``Environment``, a Gymnax environment, or a Gymnasium environment, its class or a
            function that makes one, not vectorised.
        env_params: Its parameters.

    Examples:
        >>> config, actor = PPOConfig(num_envs=4, num_steps=8), network(heads.Categorical(2))
        >>> agent = PPO(config, env, env_params, actor, network(heads.VNetwork()), optax.adam(1e-3))
        >>> isinstance(agent, Algorithm), agent.steps_per_update
        (True, 32)
    """

    config: Any
    _envs: Vectorize

    def __init__(self, config: Any, env: Environment | Any, env_params: Any):
        if any(leaf is config for leaf in jax.tree.leaves(config)):
            raise ValueError(
                f"{type(self).__name__}.config must be of a class decorated with "
                f"memorax.algorithms.hyperparameters, got {type(config).__name__}"
            )
        self.config = config
        self.env = adapt(env)
        self.env_params = env_params
        self._original = self
        self._programs: dict[str, Callable[..., Any]] = {}
        self._reporter = Reporter()

    def __init_subclass__(cls) -> None:
        """Register the subclass as a pytree."""
        super().__init_subclass__()

        def flatten_with_keys(agent):
            return [(jax.tree_util.GetAttrKey("config"), agent.config)], agent._original

        def unflatten(original, children):
            return original._with_config(*children)

        jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten)

    def _with_config(self, config: Any) -> "Algorithm":
        """Return this algorithm with other hyperparameters, which share what is compiled.

        Args:
            config: As the algorithm's own but for real numbers, which may be tracers.
        """
        agent = copy.copy(self)
        agent.config = config
        return agent

    @property
    def steps_per_update(self) -> int:
        """Environment steps between updates, over all environments."""
        return self.config.num_envs * self.config.num_steps

    @property
    def notes(self) -> tuple[str, ...]:
        """What a run says of how it learns, a line each."""
        return ()

    @property
    def batch_sequences(self) -> int:
        """Sequences that a gradient step learns from."""
        raise NotImplementedError(f"{type(self).__name__} must implement batch_sequences")

    def _init(self, key: Array) -> PyTree:
        """Return the state before the first step."""
        raise NotImplementedError(f"{type(self).__name__} must implement _init")

    def _update(self, state: Any, key: Array) -> tuple[Any, Metrics]:
        """Act, then learn."""
        raise NotImplementedError(f"{type(self).__name__} must implement _update")

    def _policy(
        self, state: Any, deterministic: bool
    ) -> tuple[Network, PyTree, Callable[[Array, Any], Array]]:
        """Return the network that acts, its parameters, and (key, its output) -> action."""
        raise NotImplementedError(f"{type(self).__name__} must implement _policy")

    def init(self, key: Array) -> PyTree:
        """Return the state before the first step.

        Raises:
            ValueError: If ``key`` is no key.
        """
        check_key(f"{type(self).__name__}.init", key, "key")
        return self._run("_init", key)

    def train(
        self, key: Array, state: Any, num_steps: int, callback: Callback | None = None
    ) -> tuple[Any, Metrics]:
        """Train for the fewest whole updates that make up ``num_steps`` environment steps.

        Args:
            key: A PRNG key.
            state: The state to continue from.
            num_steps: Environment steps, over all environments. Static under ``jax.jit``.
            callback: Called on the host with a ``TrainingProgress`` after every update, or at most
                100 times, such as ``memorax.ProgressBar()``. What it raises stops training. It
                works under ``jax.jit`` and ``jax.vmap`` too; ``None``: the program never leaves
                the device.

        Returns:
            The new state and metrics, one entry an update. The mean ``episode_return`` and
            ``episode_length`` are over the ``num_episodes`` that ended in an update, NaN if none
            did.

        Raises:
            ValueError: If ``num_steps`` is not positive, ``key`` is no key, or ``callback`` cannot
                be called.
        """
        name = f"{type(self).__name__}.train"
        check_key(name, key, "key, state, num_steps")
        check_positive(f"{name}: num_steps", num_steps)
        num_updates = -(-num_steps // self.steps_per_update)
        train = partial(self._run, "_train", key, state, num_updates=num_updates)
        if callback is None:
            return train(reporter=None)
        check_callable(f"{name}: callback", callback)
        in_a_program = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((key, state)))
        if in_a_program or self._reporter.callback is not None:
            return train(reporter=Reporter(callback))
        return self._reporter.run(callback, partial(train, reporter=self._reporter))

    def _train(
        self, key: Array, state: Any, num_updates: int, reporter: Reporter | None
    ) -> tuple[Any, Metrics]:
        keys, state = jax.random.split(key, num_updates), strongly_typed(state)
        if reporter is None:
            return jax.lax.scan(self._update, state, keys)
        return scan_and_report(self._update, state, keys, self.steps_per_update, reporter)

    def policy(self, state: Any) -> Policy:
        """Return what acts in any Gymnasium loop with what was learned.

        It takes its most likely or most valued action. It reads observations as the task shows
        them, before wrappers that flatten, mask or normalise; random wrappers and those that keep
        earlier observations are the loop's business, and so are rewards.

        Args:
            state: The state of one seed.

        Raises:
            ValueError: If it is not a state of this agent, or of several seeds.
        """
        num_seeds = seeds_of(f"{type(self).__name__}.policy: state", self, state)
        if num_seeds is not None:
            raise ValueError(
                f"{type(self).__name__}.policy: state must be of one seed, got {num_seeds}; take "
                "one by jax.tree.map(lambda leaf: leaf[0], state)"
            )
        network, _, _ = self._policy(state, deterministic=True)
        extractor = network.feature_extractor
        reads_reward = getattr(extractor, "reward_extractor", None) is not None
        return Policy(PolicyStep(self, state, reads_reward))

    def evaluate(
        self,
        key: Array,
        state: Any,
        num_episodes: int,
        deterministic: ArrayLike = True,
        max_steps: int = 100_000,
    ) -> EvaluationReport:
        """Play fresh episodes; the training state is only read.

        Args:
            key: A PRNG key.
            state: Whose parameters to play with.
            num_episodes: Number of episodes, each in an environment of its own. Static.
            deterministic: Whether to take the most likely or most valued action instead of
                exploring as at the end of training. One program does both.
            max_steps: The step at which episodes that have not ended are cut off. The report says
                which ended (``completed``); the others' returns and lengths are those up to there.
                Static.

        Raises:
            ValueError: If ``num_episodes`` or ``max_steps`` is not positive, or ``key`` is no key.
        """
        check_key(f"{type(self).__name__}.evaluate", key, "key, state, num_episodes")
        check_positive(f"{type(self).__name__}.evaluate: num_episodes", num_episodes)
        check_positive(f"{type(self).__name__}.evaluate: max_steps", max_steps)
        return self._run(
            "_evaluate",
            *(key, state, deterministic),
            num_episodes=num_episodes,
            max_steps=max_steps,
        )

    def _evaluate(
        self, key: Array, state: Any, deterministic: ArrayLike, num_episodes: int, max_steps: int
    ) -> EvaluationReport:
        episodes = self._begin_evaluation(key, state, num_episodes)
        episodes = self._continue_evaluation(state, episodes, 0, max_steps, deterministic)
        release(episodes.env_state)
        return episodes.report

    def begin_evaluation(self, key: Array, state: Any, num_episodes: int) -> EvaluationState:
        """Begin fresh episodes, which ``continue_evaluation`` plays a number of steps at a time.

        ``evaluate`` plays them in one program, which says nothing and cannot be stopped before its
        end.

        Args:
            key: A PRNG key.
            state: Whose parameters to play with.
            num_episodes: Number of episodes, each in an environment of its own. Static.

        Raises:
            ValueError: If ``num_episodes`` is not positive.
        """
        check_positive(f"{type(self).__name__}.begin_evaluation: num_episodes", num_episodes)
        return self._run("_begin_evaluation", key, state, num_episodes=num_episodes)

    def _begin_evaluation(self, key: Array, state: Any, num_episodes: int) -> EvaluationState:
        network, _, _ = self._policy(state, deterministic=True)
        carry = network.initialize_carry(num_episodes)
        env = self._env_for_evaluation(state.env_state)
        return evaluation.begin(carry, env, self.env_params, key, num_episodes)

    def continue_evaluation(
        self,
        state: Any,
        episodes: EvaluationState,
        first_step: ArrayLike,
        last_step: ArrayLike,
        deterministic: ArrayLike = True,
    ) -> EvaluationState:
        """Play episodes from one step to another, or until all have ended.

        Args:
            state: Whose parameters to play with.
            episodes: As returned by ``begin_evaluation`` or the previous call.
            first_step: Steps played before.
            last_step: The largest number of steps.
            deterministic: As for ``evaluate``.
        """
        steps = first_step, last_step
        return self._run("_continue_evaluation", state, episodes, *steps, deterministic)

    def _continue_evaluation(
        self,
        state: Any,
        episodes: EvaluationState,
        first_step: ArrayLike,
        last_step: ArrayLike,
        deterministic: ArrayLike,
    ) -> EvaluationState:
        network, params, most_likely = self._policy(state, deterministic=True)
        _, _, sampled = self._policy(state, deterministic=False)

        def act(key, timestep, carry):
            carry, output = apply_step(network, params, timestep, carry)

            def action_of(choose):
                return choose(key, output)[:, 0].astype(timestep.action.dtype)

            return carry, jax.lax.cond(
                deterministic, lambda: action_of(most_likely), lambda: action_of(sampled)
            )

        env = self._env_for_evaluation(state.env_state)
        return evaluation.play(act, env, self.env_params, episodes, first_step, last_step)

    def _run(self, method: str, *arguments: Any, **static: Any) -> Any:
        """Run a method compiled, with the hyperparameters among its arguments."""
        if method not in self._programs:
            # A function of its own for each agent, so that JAX keeps no program longer than it.
            run = partial(_run_method, self._original, method)
            self._programs[method] = jax.jit(run, static_argnames=tuple(static))
        return self._programs[method](self.config, *arguments, **static)

    def _env_for_evaluation(self, state: PyTree) -> Environment:
        """Return the environment as training has left it, out of what the algorithm wraps it in."""
        env: Any = self._envs
        while env is not self.env:
            env, state = env.env, env.inner_state(state)
        return self.env.for_evaluation(state)


def _run_method(agent: Algorithm, method: str, config: Any, *arguments: Any, **static: Any) -> Any:
    """Run a method of an agent with the hyperparameters of a configuration."""
    config = jax.tree.map(partial(jnp.asarray, dtype=jnp.float32), config)
    output = getattr(agent._with_config(config), method)(*arguments, **static)
    # Else what comes out would be compiled for again when it goes in.
    return strongly_typed(output)
