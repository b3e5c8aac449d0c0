"""Q-learning of recurrent agents from fresh rollouts, without replay or target network."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, PyTree

from memorax.algorithms.acting import (
    Timestep,
    apply_step,
    check_action_values,
    episode_metrics,
    first_timestep,
    init_network,
    read_sequences,
)
from memorax.algorithms.algorithm import Algorithm, Metrics
from memorax.algorithms.configurations import hyperparameters
from memorax.algorithms.exploration import check_epsilon, epsilon_greedy, linear_epsilon
from memorax.algorithms.replaying import Transition, vectorize
from memorax.algorithms.return_scale import ReturnScale
from memorax.algorithms.returns import lambda_returns
from memorax.algorithms.rollouts import (
    check_minibatches,
    cut_to_sequences,
    minibatch_indices,
    rollout_sequence_length,
    take_minibatch,
)
from memorax.algorithms.sharding import gather_batch
from memorax.environments import Environment
from memorax.networks import Network, heads
from memorax.validation import check_between, check_positive, check_whole


@hyperparameters
@dataclass(frozen=True)
class PQNConfig:
    """What PQN does; defaults after Gallici et al. 2024, sizes as for small tasks.

    Raises:
        ValueError: If a value is out of its range, ``num_envs * num_steps`` is not divisible by
            ``num_minibatches``, or ``burn_in_length`` leaves nothing to learn from.
    """

    num_envs: int = 16
    """Environments that run side by side."""
    num_steps: int = 64
    """Steps of each environment between updates: the length of the sequences learned from."""
    num_minibatches: int = 4
    """Parts that a rollout is split into; whole sequences, unless the network holds no carry."""
    update_epochs: int = 4
    """Times that each rollout is learned from."""
    gamma: float = 0.99
    """Discount of a reward one step later."""
    normalize_rewards: bool = True
    """Learn from rewards divided by the typical size of returns so far, see ``ReturnScale``."""
    q_lambda: float = 0.5
    """Mix of Q(lambda): 0 trusts the next action values, 1 the returns."""
    epsilon_start: float = 1.0
    """Share of random actions at the beginning."""
    epsilon_end: float = 0.05
    """Share of random actions in the end."""
    epsilon_decay_steps: int = 50_000
    """Environment steps over which the share of random actions falls, linearly."""
    burn_in_length: int = 0
    """First steps of each sequence that only refresh the carry and are not learned from."""
    sown_loss_coefficient: float = 1.0
    """Weight of what the network's parts sow under losses, as a mixture of experts' balance."""

    def __post_init__(self):
        """Check the fields."""
        for field in ("num_envs", "num_steps", "num_minibatches", "update_epochs"):
            check_positive(f"PQNConfig.{field}", getattr(self, field))
        for field in ("gamma", "q_lambda"):
            check_between(f"PQNConfig.{field}", getattr(self, field), 0.0, 1.0)
        check_between("PQNConfig.sown_loss_coefficient", self.sown_loss_coefficient, 0.0)
        check_epsilon(self)
        check_minibatches(self)
        check_whole("PQNConfig.burn_in_length", self.burn_in_length, 0, self.num_steps - 1)

    def optimizer_steps(self, num_updates: int) -> int:
        """Return the steps of the optimizer in the first updates of a run."""
        return num_updates * self.update_epochs * self.num_minibatches


@struct.dataclass
class PQNState:
    """Everything that training needs to go on.

    Attributes:
        num_updates: Rollouts learned from so far.
        params: The network's parameters.
        optimizer_state: The optimizer's state.
        env_state: The environments' state.
        timestep: What the network reads next.
        carry: The network's carry before it reads it.
        return_scale: The size of returns so far.
    """

    num_updates: PyTree
    params: PyTree
    optimizer_state: PyTree
    env_state: PyTree
    timestep: PyTree
    carry: PyTree
    return_scale: PyTree


class PQN(Algorithm):
    """Q(lambda), recurrent, on fresh rollouts of parallel environments.

    A rollout keeps the carry it began with, and learning reads each environment's sequence from
    there in one pass, in the order it happened. Targets are Peng's Q(lambda) of the action values
    that acting saw, so there is neither replay nor target network; normalise the network's layers
    (``PreNorm``, ``nn.LayerNorm``), which is what keeps it stable without them. A time limit
    bootstraps from the value of the true last observation, which the network reads as a step of
    its own; a termination is worth nothing more.

    Args:
        config: What PQN does.
        env: An ``Environment`` or a Gymnax environment of discrete actions, not vectorised.
        env_params: Its parameters.
        network: A network whose head returns action values.
        optimizer: Applied to the parameters once a minibatch.

    Raises:
        ValueError: If the network does not fit the environment or the configuration. Nothing has
            been compiled by then.

    Source: Gallici et al. 2024, "Simplifying Deep Temporal Difference Learning", arXiv 2407.04811.
    """

    def __init__(
        self,
        config: PQNConfig,
        env: Environment | Any,
        env_params: Any,
        network: Network,
        optimizer: optax.GradientTransformation,
    ):
        super().__init__(config, env, env_params)
        self.network = network
        self.optimizer = optimizer
        self._envs = vectorize(self.env, config.num_envs)
        check_action_values("PQN.network", network, self._envs, env_params)
        if isinstance(network.head, heads.C51QNetwork):
            raise ValueError(
                "PQN.network.head must be DiscreteQNetwork, since Q(lambda) mixes values, not "
                "their distributions, got C51QNetwork: use DQN"
            )
        carry = jax.eval_shape(lambda: network.initialize_carry(config.num_envs))
        self._sequence_length = rollout_sequence_length(config, carry)

    @property
    def steps_per_update(self) -> int:
        """Environment steps between updates, over all environments."""
        return self.config.num_envs * self.config.num_steps

    @property
    def batch_sequences(self) -> int:
        """Sequences of a minibatch."""
        return self.steps_per_update // self._sequence_length // self.config.num_minibatches

    def _init(self, key: Array) -> PQNState:
        """Return the state before the first step."""
        env_key, network_key = jax.random.split(key)
        timestep, env_state = first_timestep(self._envs, self.env_params, env_key)
        params = init_network(self.network, network_key, timestep)
        return PQNState(
            num_updates=jnp.int32(0),
            params=params,
            optimizer_state=self.optimizer.init(params),
            env_state=env_state,
            timestep=timestep,
            carry=self.network.initialize_carry(self.config.num_envs),
            return_scale=ReturnScale.init(self.config.num_envs),
        )

    def policy(self, state: PQNState, deterministic: bool):
        """Return what acts: the network, its parameters and how it chooses."""

        def choose(key, output):
            values = heads.expected_value(output)
            if deterministic:
                return values.argmax(axis=-1)
            return epsilon_greedy(key, values, self.config.epsilon_end)

        return self.network, state.params, choose

    def _update(self, state: PQNState, key: Array) -> tuple[PQNState, Metrics]:
        """Act, then learn."""
        act_key, learn_key = jax.random.split(key)
        epsilon = linear_epsilon(self.config, state.num_updates, self.steps_per_update)
        state, sequences, episodes = self._rollout(state, act_key, epsilon)
        params, optimizer_state, metrics = self._learn(state, sequences, learn_key)
        state = replace(
            state,
            num_updates=optax.safe_increment(state.num_updates),
            params=params,
            optimizer_state=optimizer_state,
        )
        metrics |= {"epsilon": epsilon} | episode_metrics(*episodes)
        if self.config.normalize_rewards:
            metrics["return_scale"] = state.return_scale.size
        return state, metrics

    def _rollout(self, state: PQNState, key: Array, epsilon: Array):
        """Act for ``num_steps`` steps in every environment; return what the loss reads of them."""
        carry = state.carry
        state, (transitions, values, episodes) = jax.lax.scan(
            partial(self._act, epsilon=epsilon), state, jax.random.split(key, self.config.num_steps)
        )
        _, last_output = apply_step(self.network, state.params, state.timestep, state.carry)
        values = jnp.concatenate([values, heads.expected_value(last_output)[:, 0].max(-1)[None]])
        ended = transitions.terminated | transitions.cut_off
        if self.config.normalize_rewards:
            scale = state.return_scale.update(transitions.reward, ended, self.config.gamma)
            state = replace(state, return_scale=scale)
            transitions = replace(transitions, reward=transitions.reward / scale.size)
        steps = transitions, self._targets(transitions, values)
        return state, (*cut_to_sequences(steps, self._sequence_length), carry), episodes

    def _act(self, state: PQNState, key: Array, epsilon: Array):
        """Act once in every environment."""
        action_key, env_key = jax.random.split(key)
        carry, output = apply_step(self.network, state.params, state.timestep, state.carry)
        values = heads.expected_value(output)[:, 0]
        action = epsilon_greedy(action_key, values, epsilon)
        action = action.astype(state.timestep.action.dtype)
        observation, env_state, reward, terminated, truncated, info = self._envs.step(
            env_key, state.env_state, action, self.env_params
        )
        transition = Transition(state.timestep, action, reward, terminated, truncated)
        state = replace(
            state,
            env_state=env_state,
            timestep=Timestep(observation, terminated | truncated, action, reward),
            carry=carry,
        )
        episodes = info["episode_ended"], info["episode_return"], info["episode_length"]
        episodes += (info.get("episode_changed_return"),)
        return state, (transition, values.max(-1), episodes)

    def _targets(self, transitions: Transition, values: Array) -> Array:
        """Return Q(lambda); a step that a time limit cut off is worth its own value."""
        ended = transitions.terminated | transitions.cut_off
        reward = jnp.where(transitions.cut_off, values[:-1], transitions.reward)
        discount = jnp.where(jnp.asarray(ended), 0.0, self.config.gamma)
        return lambda_returns(reward, discount, values[1:], self.config.q_lambda)

    def _learn(self, state: PQNState, sequences: tuple, key: Array):
        """Run the epochs; return parameters, the optimizer's state and metrics."""
        config = self.config

        def minibatch_step(learner, indices):
            params, optimizer_state = learner
            minibatch = take_minibatch(sequences, indices)
            (_, metrics), gradients = jax.value_and_grad(self._loss, has_aux=True)(
                params, *minibatch
            )
            metrics["gradient_norm"] = optax.tree.norm(gradients)
            updates, optimizer_state = self.optimizer.update(gradients, optimizer_state, params)
            return (optax.apply_updates(params, updates), optimizer_state), metrics

        num_sequences = sequences[1].shape[0]
        sequences = gather_batch(sequences)
        indices = minibatch_indices(
            key, num_sequences, config.update_epochs, config.num_minibatches
        )
        learner, metrics = jax.lax.scan(
            minibatch_step, (state.params, state.optimizer_state), indices
        )
        return *learner, jax.tree.map(jnp.mean, metrics)

    def _loss(self, params: PyTree, transitions: Transition, targets: Array, carry: PyTree):
        """Return the objective to minimise, and metrics."""
        burn_in_length = self.config.burn_in_length
        output, sown = read_sequences(
            self.network, params, transitions.timestep, carry, burn_in_length
        )
        action, targets, cut_off = (
            leaf[:, burn_in_length:] for leaf in (transitions.action, targets, transitions.cut_off)
        )
        chosen: Any = heads.select_action(output, action)
        head: Any = self.network.head
        loss = jnp.where(cut_off, 0, head.loss(chosen, targets))
        loss = loss.sum() / jnp.maximum((~cut_off).sum(), 1)
        metrics = {"loss": loss, "action_value": chosen.mean()}
        return loss + self.config.sown_loss_coefficient * sown, metrics
