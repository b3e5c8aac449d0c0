"""Acting with what an agent has learned, outside of training."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, SupportsFloat

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from memorax.algorithms.acting import Timestep, apply_step
from memorax.environments import Box, Discrete, Environment
from memorax.environments.processes.environment import ProcessEnvironment
from memorax.environments.spaces import structure
from memorax.environments.wrappers.unwrapping import split_observation_wrappers

if TYPE_CHECKING:
    from memorax.algorithms.algorithm import Algorithm

Carry = tuple[Array, ...]


@dataclass(frozen=True)
class PolicyStep:
    """One deterministic step of a trained agent, as a pure function of arrays.

    Attributes:
        agent: The agent.
        state: The state of one seed.
        reads_reward: Whether the network reads the previous reward.
        name: The network's name in messages.
    """

    agent: "Algorithm"
    state: Any
    reads_reward: bool
    name: str = "this network"

    @cached_property
    def _policy(self) -> tuple[Any, PyTree, Callable[..., Array]]:
        return self.agent._policy(self.state, deterministic=True)

    @cached_property
    def _structure(self) -> Any:
        return jax.tree.structure(self._fresh())

    def _fresh(self):
        space = self.agent.env.action_space(self.agent.env_params)
        action = (
            jnp.zeros(1, jnp.int32)
            if isinstance(space, Discrete)
            else jnp.zeros((1, *space.shape), space.dtype)
        )
        return self._policy[0].initialize_carry(1), action

    @property
    def initial_carry(self) -> Carry:
        """The state before the first observation: memory and last action, flat."""
        return tuple(jnp.asarray(leaf) for leaf in jax.tree.leaves(self._fresh()))

    @cached_property
    def _task_and_observe(self) -> tuple[Environment, Callable[[PyTree], PyTree]]:
        env = self.agent._env_for_evaluation(self.state.env_state)
        return split_observation_wrappers(env, self.agent.env_params)

    @property
    def task(self) -> Environment:
        """The task, without the wrappers that the step itself stands for."""
        return self._task_and_observe[0]

    def memory(self, carry: Carry) -> PyTree:
        """Return the network's part of a carry, which is all but the last action."""
        memory, _ = jax.tree.unflatten(self._structure, carry)
        return memory

    @property
    def observation(self) -> PyTree:
        """The shape and dtype of each array of the task's observations, without a batch."""
        return structure(self.task.observation_space(self.agent.env_params))

    def __call__(
        self, observation: PyTree, carry: Carry, done: Array, reward: Array | None = None
    ) -> tuple[Array, Carry]:
        """Act once.

        Args:
            observation: As the task shows it, without a batch.
            carry: The carry that the last call returned, or ``initial_carry``.
            done: bool; true where the observation is the first of an episode.
            reward: float; the reward of the last action. Only if ``reads_reward``.

        Returns:
            The action that the task takes, without a batch, and the new carry.
        """
        memory, output = self.read(observation, carry, done, reward)
        action = self.choose(output)
        space = self.agent.env.action_space(self.agent.env_params)
        taken = jnp.clip(action, space.low, space.high) if isinstance(space, Box) else action
        return taken[0], tuple(jax.tree.leaves((memory, action)))

    def read(
        self, observation: PyTree, carry: Carry, done: Array, reward: Array | None = None
    ) -> tuple[PyTree, PyTree]:
        """Return the network's new memory and its head's output, of the arguments of a call."""
        network, params, _ = self._policy
        timestep = self.timestep(observation, carry, done, reward)
        return apply_step(network, params, timestep, self.memory(carry))

    def timestep(
        self, observation: PyTree, carry: Carry, done: Array, reward: Array | None = None
    ) -> Timestep:
        """Return what the network reads, with a batch of 1, of the arguments of a call."""
        _, action = jax.tree.unflatten(self._structure, carry)
        earned = jnp.float32(0) if reward is None else reward
        _, observe = self._task_and_observe
        observation = jax.tree.map(lambda array: array[None], observe(observation))
        return Timestep(observation, done[None], action, earned[None])

    @property
    def network(self) -> tuple[Any, PyTree]:
        """The network that acts, and its parameters."""
        return self._policy[:2]

    def choose(self, output: PyTree) -> Array:
        """Return the action of a head's output, with a batch of 1 and before it is clipped."""
        _, action = self._fresh()
        return self._policy[2](jax.random.key(0), output)[:, 0].astype(action.dtype)


class Policy:
    """A trained agent that acts in any Gymnasium loop, one episode after the other.

    It takes its most likely or most valued action, as ``memorax evaluate`` does, and keeps its
    memory itself. ``agent.policy(state)`` returns that of an agent, ``Policy.load("runs/my-run")``
    that of a run; ``policy.reset()`` begins an episode.

    Args:
        step: The step of an agent.

    Examples:
        >>> head = heads.ActorCritic(heads.Categorical(2), heads.VNetwork())
        >>> config = PPOConfig(num_envs=4, num_steps=8)
        >>> agent = PPO(config, env, env_params, network(head), None, optax.adam(1e-3))
        >>> policy = agent.policy(agent.init(key))
        >>> observation, state = env.reset(key, env_params)
        >>> policy(observation).shape
        ()
    """

    def __init__(self, step: PolicyStep):
        self._step = jax.jit(step.__call__)
        self._reads_reward = step.reads_reward
        self._initial_carry = step.initial_carry
        self._observation = step.observation
        self._observation_space = step.task.observation_space(step.agent.env_params)
        self._encode, self._decode = self._checked, np.asarray
        if isinstance(step.task, ProcessEnvironment):
            # The agent knows the arrays that these are made to be; a loop has Gymnasium's own.
            self._encode, self._decode = step.task.encode, step.task.decode
        self.reset()

    @classmethod
    def load(
        cls,
        run: str | Path,
        model: str | None = None,
        seed: int = 0,
        checkpoint: Literal["last", "best"] = "last",
    ) -> "Policy":
        """Return an agent of a run.

        Args:
            run: The run's folder.
            model: The torso's name; None: the run's own, not its memoryless twin.
            seed: Which of the run's seeds.
            checkpoint: ``"last"`` for what training came to, ``"best"`` for the checkpoint with the
                greatest mean return.

        Raises:
            ValueError: If there is no such run, model or seed, or no checkpoint.
            ModuleNotFoundError: If the task's suite is not installed.
        """
        from memorax.experiments.run.policy import load_step  # noqa: PLC0415

        return cls(load_step(Path(run), model, seed, checkpoint))

    def reset(self) -> None:
        """Begin an episode: everything before it is forgotten."""
        self._carry = self._initial_carry
        self._done = True

    def __call__(
        self, observation: Any, reward: SupportsFloat | None = None
    ) -> np.ndarray | np.generic:
        """Act once.

        Args:
            observation: As the task shows it, of its shape and dtype. One that runs in processes
                shows what ``gymnasium.make`` of it does: a number, an array, a tuple or a
                dictionary.
            reward: The reward of the last action; needed if the run has ``previous_inputs``, but at
                an episode's first step.

        Returns:
            The action, as the task takes it: an integer of shape (), or an array of the action
            space's shape.

        Raises:
            ValueError: If the observation is of another shape or dtype or no choice that there is,
                or the reward is missing.
        """
        observation = self._encode(observation)
        if reward is None and self._reads_reward and not self._done:
            raise ValueError("Policy: this agent also needs the reward of its last action")
        earned = None
        if self._reads_reward:
            earned = np.float32(0.0 if reward is None else float(reward))
        # NumPy scalars: to make JAX arrays of them takes longer than the step.
        action, self._carry = self._step(observation, self._carry, np.bool_(self._done), earned)
        self._done = False
        return self._decode(np.asarray(action))

    def _checked(self, observation):
        observation, expected = np.asarray(observation), self._observation
        space = self._observation_space
        same = observation.dtype == expected.dtype
        if isinstance(space, Discrete):
            # An integer of any width is a valid choice.
            same = np.issubdtype(observation.dtype, np.integer)
        if observation.shape != expected.shape or not same:
            raise ValueError(
                f"Policy: the observation must be {expected.dtype} of shape {expected.shape}, got "
                f"{observation.dtype} of shape {observation.shape}"
            )
        if isinstance(space, Discrete) and not 0 <= observation < space.n:
            raise ValueError(f"Policy: the observation must lie in {space}, got {observation}")
        return observation.astype(expected.dtype)
