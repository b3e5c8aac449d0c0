"""Q-learning of recurrent agents from fresh rollouts, without replay or target network."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, PyTree

from memorax.algorithms.acting import apply_step, episodes_of, read_sequences
from memorax.algorithms.algorithm import Metrics
from memorax.algorithms.checks import check_action_values
from memorax.algorithms.configurations import hyperparameters
from memorax.algorithms.exploration import epsilon_greedy, linear_epsilon
from memorax.algorithms.return_scale import ReturnScale
from memorax.algorithms.returns import bootstrap_truncations, lambda_returns
from memorax.algorithms.rollout import (
    RolloutAlgorithm,
    RolloutState,
    cut_to_sequences,
)
from memorax.algorithms.transitions import Transition, mean_over, take_step, vectorize
from memorax.configurations.pqn import PQNConfig
from memorax.environments import Environment
from memorax.networks import Network, heads

hyperparameters(PQNConfig)


@struct.dataclass
class PQNState(RolloutState):
    """The training state: everything that resuming needs.

    Attributes:
        return_scale: The size of returns so far.

    Examples:
        >>> q = heads.DiscreteQNetwork(action_dim=2)
        >>> config = PQNConfig(num_envs=2, num_steps=4, num_minibatches=1)
        >>> agent = PQN(config, env, env_params, network(q), optax.radam(1e-3))
        >>> isinstance(jax.eval_shape(agent.init, key), PQNState)
        True
    """

    return_scale: PyTree


@struct.dataclass
class PQNRollout:
    """One rollout. All lead with (time, envs).

    Attributes:
        transitions: The transitions.
        values: The greatest action value at each step.
        episodes: The arguments of ``episode_metrics``.
    """

    transitions: PyTree
    values: PyTree
    episodes: PyTree


@struct.dataclass
class PQNSequences:
    """The input of the loss. All lead with (batch, time) but the carry, which leads with batch.

    Attributes:
        transitions: The transitions.
        targets: The targets of the actions' values.
        carry: The network's carry before the first step.
    """

    transitions: PyTree
    targets: PyTree
    carry: PyTree


class PQN(RolloutAlgorithm):
    """Q(lambda), recurrent, on fresh rollouts of parallel environments.

    A rollout keeps the carry it began with, and learning reads each environment's sequence from
    there in one pass, in the order it happened. Targets are Peng's Q(lambda) of the action values
    computed while acting, so there is neither replay nor target network; normalise the network's
    layers (``PreNorm``, ``nn.LayerNorm``), which is what keeps it stable without them. A time limit
    bootstraps from the value of the true last observation, which the network reads as a step of its
    own; after a termination the value is 0.

    Args:
        config: The hyperparameters.
        env: An ``Environment`` or a Gymnax environment of discrete actions, not vectorised.
        env_params: Its parameters.
        network: A network whose head returns action values.
        optimizer: Applied to the parameters once a minibatch.

    Raises:
        ValueError: If the network does not fit the environment or the configuration. Nothing has
            been compiled by then.

    Source: Gallici et al. 2024, "Simplifying Deep Temporal Difference Learning", arXiv 2407.04811.

    Examples:
        >>> q = heads.DiscreteQNetwork(action_dim=2)
        >>> config = PQNConfig(num_envs=2, num_steps=4, num_minibatches=1)
        >>> agent = PQN(config, env, env_params, network(q), optax.radam(1e-3))
        >>> state = jax.eval_shape(agent.init, key)
        >>> agent.steps_per_update
        8
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
        self._prepare_rollouts()

    @property
    def _networks(self) -> Network:
        return self.network

    def _init(self, key: Array) -> PQNState:
        """Return the state before the first step."""
        return_scale = ReturnScale.init(self.config.num_envs)
        return PQNState(**vars(super()._init(key)), return_scale=return_scale)

    def _policy(self, state: PQNState, deterministic: bool):
        """Return what acts: the network, its parameters and how it chooses."""

        def choose(key, output):
            values = heads.expected_value(output)
            if deterministic:
                return values.argmax(axis=-1)
            return epsilon_greedy(key, values, self.config.epsilon_end)

        return self.network, state.params, choose

    def _epsilon(self, state: PQNState) -> Array:
        return linear_epsilon(self.config, state.num_updates, self.steps_per_update)

    def _update(self, state: PQNState, key: Array) -> tuple[PQNState, Metrics]:
        epsilon = self._epsilon(state)
        state, metrics = super()._update(state, key)
        metrics["epsilon"] = epsilon
        if self.config.normalize_rewards:
            metrics["return_scale"] = state.return_scale.size
        return state, metrics

    def _rollout(self, state: PQNState, key: Array) -> tuple[PQNState, PQNRollout]:
        """Act for ``num_steps`` steps in every environment."""
        act = partial(self._act, epsilon=self._epsilon(state))
        keys = jax.random.split(key, self.config.num_steps)
        state, rollout = jax.lax.scan(act, state, keys)
        transitions = rollout.transitions
        ended = transitions.terminated | transitions.truncated
        scale = state.return_scale.update(transitions.reward, ended, self.config.gamma)
        return replace(state, return_scale=scale), rollout

    def _sequences(
        self, state: PQNState, next_state: PQNState, rollout: PQNRollout
    ) -> PQNSequences:
        """Add targets and the carry that acting began with; bring the batch to the front."""
        _, last_output = apply_step(
            self.network, state.params, next_state.timestep, next_state.carry
        )
        last_value = heads.expected_value(last_output)[:, 0].max(-1)
        values = jnp.concatenate([rollout.values, last_value[None]])
        transitions = rollout.transitions
        if self.config.normalize_rewards:
            reward = transitions.reward / next_state.return_scale.size
            transitions = replace(transitions, reward=reward)
        steps = transitions, self._targets(transitions, values)
        return PQNSequences(*cut_to_sequences(steps, self._sequence_length), carry=state.carry)

    def _act(self, state: PQNState, key: Array, epsilon: Array):
        """Act once in every environment."""
        action_key, env_key = jax.random.split(key)
        carry, output = apply_step(self.network, state.params, state.timestep, state.carry)
        values = heads.expected_value(output)[:, 0]
        action = epsilon_greedy(action_key, values, epsilon)
        action = action.astype(state.timestep.action.dtype)
        state, transition, info = take_step(
            self._envs, self.env_params, env_key, state, carry, action
        )
        return state, PQNRollout(transition, values.max(-1), episodes_of(info))

    def _targets(self, transitions: Transition, values: Array) -> Array:
        """Return Q(lambda)."""
        reward, discount = bootstrap_truncations(transitions, values[:-1], self.config.gamma)
        return lambda_returns(reward, discount, values[1:], self.config.q_lambda)

    def _loss(self, params: PyTree, sequences: PQNSequences) -> tuple[Array, Metrics]:
        """Return the objective to minimise, and metrics."""
        burn_in_length = self.config.burn_in_length
        transitions = sequences.transitions
        output, sown = read_sequences(
            self.network, params, transitions.timestep, sequences.carry, burn_in_length
        )
        action, targets, truncated = (
            leaf[:, burn_in_length:]
            for leaf in (transitions.action, sequences.targets, transitions.truncated)
        )
        chosen: Any = heads.select_action(output, action)
        head: Any = self.network.head
        loss = mean_over(~truncated)(head.loss(chosen, targets))
        metrics = {"loss": loss, "action_value": chosen.mean()}
        return loss + self.config.sown_loss_coefficient * sown, metrics
