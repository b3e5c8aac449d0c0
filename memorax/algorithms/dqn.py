"""Deep Q-learning of recurrent agents from replay: DQN, its refinements, and R2D2."""

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
    init_network,
    read_sequences,
)
from memorax.algorithms.algorithm import Metrics
from memorax.algorithms.checks import check_action_values
from memorax.algorithms.configurations import hyperparameters
from memorax.algorithms.exploration import epsilon_greedy, linear_epsilon
from memorax.algorithms.replay import (
    ReplayAlgorithm,
    ReplayState,
    learned_from,
)
from memorax.algorithms.returns import n_step_returns
from memorax.algorithms.transitions import Sequences, masked_mean
from memorax.buffers import ReplaySample, importance_weights
from memorax.configurations.dqn import DQNConfig, R2D2Config
from memorax.dtypes import as_before
from memorax.environments import Environment
from memorax.networks import Network, heads

hyperparameters(DQNConfig)
hyperparameters(R2D2Config)


@struct.dataclass
class DQNLearner:
    """The part of the state that gradient steps change.

    Attributes:
        params: The network's parameters.
        target_params: Those of the target network.
        optimizer_state: The optimizer's state.
        num_gradient_steps: Gradient steps so far.
    """

    params: PyTree
    target_params: PyTree
    optimizer_state: PyTree
    num_gradient_steps: PyTree


class DQN(ReplayAlgorithm):
    """Deep Q-learning, recurrent, from a replay of sequences.

    With ``heads.C51QNetwork`` the same class learns the distribution of returns, with
    ``heads.DiscreteQNetwork(dueling=True)`` the action values apart from the state's, with
    ``R2D2Config`` it is R2D2. See ``ReplayAlgorithm`` for what a sequence holds.

    Args:
        config: The hyperparameters.
        env: An ``Environment`` or a Gymnax environment of discrete actions, not vectorised.
        env_params: Its parameters.
        network: A network whose head returns action values.
        optimizer: Applied to the parameters once a gradient step.

    Raises:
        ValueError: If the network does not fit the environment or the configuration, or the replay
            would not fit into memory. Nothing has been compiled or allocated by then.

    Source: Mnih et al. 2015, "Human-level control through deep reinforcement learning"; Hausknecht
        and Stone 2015, arXiv 1507.06527 (recurrent); Kapturowski et al. 2019 (R2D2); Bellemare et
        al. 2017, arXiv 1707.06887 (C51).

    Examples:
        >>> q = heads.DiscreteQNetwork(action_dim=2)
        >>> sizes = dict(num_envs=2, num_steps=4, sequence_length=4, learning_starts=16)
        >>> config = DQNConfig(**sizes, batch_size=2)
        >>> agent = DQN(config, env, env_params, network(q), optax.adam(1e-3))
        >>> state = jax.eval_shape(agent.init, key)
        >>> state, metrics = jax.eval_shape(lambda state: agent.train(key, state, 8), state)
    """

    config: DQNConfig

    def __init__(
        self,
        config: DQNConfig,
        env: Environment | Any,
        env_params: Any,
        network: Network,
        optimizer: optax.GradientTransformation,
    ):
        super().__init__(config, env, env_params)
        self.network = network
        self.optimizer = optimizer
        check_action_values("DQN.network", network, self._envs, env_params)
        self._prepare_replay()

    @property
    def _priority_exponent(self) -> Any:
        return self.config.priority_exponent

    @property
    def _normalizes_rewards(self) -> bool:
        # A distribution over values has its range in the task's units.
        distributional = isinstance(self.network.head, heads.C51QNetwork)
        return self.config.normalize_rewards and not distributional

    def _initial_carry(self) -> PyTree:
        return self.network.initialize_carry(self.config.num_envs)

    def _init_learner(self, key: Array, timestep: Timestep) -> DQNLearner:
        params = init_network(self.network, key, timestep)
        return DQNLearner(params, params, self.optimizer.init(params), jnp.int32(0))

    def _policy(self, state: ReplayState, deterministic: bool):
        """Return what acts: the network, its parameters and how it chooses."""

        def choose(key, output):
            values = heads.expected_value(output)
            if deterministic:
                return values.argmax(axis=-1)
            return epsilon_greedy(key, values, self.config.epsilon_end)

        return self.network, state.params, choose

    def _choose(self, state: ReplayState, key: Array) -> tuple[PyTree, Array]:
        carry, output = apply_step(self.network, state.params, state.timestep, state.carry)
        values = heads.expected_value(output)[:, 0]
        action = epsilon_greedy(key, values, self._epsilon(state))
        return carry, action.astype(state.timestep.action.dtype)

    def _epsilon(self, state: ReplayState) -> Array:
        return linear_epsilon(self.config, state.num_updates, self.steps_per_update)

    def _update(self, state: ReplayState, key: Array) -> tuple[ReplayState, Metrics]:
        epsilon = self._epsilon(state)
        state, metrics = super()._update(state, key)
        return state, metrics | {"epsilon": epsilon}

    def _learn(self, learner: DQNLearner, sample: ReplaySample, key: Array):
        config = self.config
        weights = jnp.ones(config.batch_size, jnp.float32)
        if sample.probabilities is not None:
            weights = importance_weights(sample.probabilities, config.importance_exponent)
        (_, (priorities, metrics)), gradients = jax.value_and_grad(self._loss, has_aux=True)(
            learner.params, learner.target_params, sample.sequences, weights
        )
        updates, optimizer_state = self.optimizer.update(
            gradients, learner.optimizer_state, learner.params
        )
        params = optax.apply_updates(learner.params, updates)
        num_gradient_steps = learner.num_gradient_steps + 1
        due = num_gradient_steps % config.target_update_period == 0
        moved = optax.incremental_update(params, learner.target_params, config.target_update_rate)
        # The rate is of 32 bits, and would widen parameters of 16.
        target_params = jax.tree.map(
            partial(jnp.where, due), as_before(learner.target_params, moved), learner.target_params
        )
        learner = DQNLearner(params, target_params, optimizer_state, num_gradient_steps)
        metrics["gradient_norm"] = optax.tree.norm(gradients)
        return learner, priorities if self._replay.prioritized else None, metrics

    def _loss(self, params: PyTree, target_params: PyTree, sequences: Sequences, weights: Array):
        """Return the objective to minimise; each sequence's priority, and metrics."""
        config, head = self.config, self.network.head
        read = partial(
            read_sequences,
            self.network,
            timesteps=sequences.timestep,
            carry=sequences.carry,
            burn_in_length=config.burn_in_length,
        )
        output, sown = read(params)
        target_output, _ = read(target_params)
        learned = learned_from(sequences, config.burn_in_length)
        mask = ~learned.truncated
        acted_on = jax.tree.map(lambda leaf: leaf[:, :-1], output)
        chosen = heads.select_action(acted_on, learned.action)
        loss = head.loss(chosen, self._target(output, target_output, learned))
        # |Q(s, a) - target|, but for distributions, whose loss says how far apart they are.
        error = loss if isinstance(chosen, heads.ValueDistribution) else jnp.sqrt(2 * loss)
        mean_error = masked_mean(error, mask)
        largest = jnp.where(mask, error, 0).max(axis=1)
        share = config.max_priority_weight
        # What has priority 0 would never be drawn again.
        priorities = share * largest + (1 - share) * mean_error + 1e-6
        loss = (weights * masked_mean(loss, mask)).mean()
        metrics = {
            "loss": loss,
            "action_value": masked_mean(heads.expected_value(chosen), mask).mean(),
            "temporal_difference_error": mean_error.mean(),
        }
        return loss + config.sown_loss_coefficient * sown, (
            jax.lax.stop_gradient(priorities),
            metrics,
        )

    def _target(self, output: Any, target_output: Any, sequences: Sequences) -> Any:
        """Return the targets of the chosen actions' values."""
        config, head = self.config, self.network.head
        returns, discount, index = n_step_returns(sequences, config.gamma, config.n_step)
        chooser = output if config.double_q else target_output
        action = jnp.argmax(heads.expected_value(chooser), axis=-1)
        chosen = heads.select_action(target_output, action)
        # The n steps may end at different times, each with a value there.
        read_row = jax.vmap(lambda values, index: values[index])
        bootstrap = jax.tree.map(lambda leaf: read_row(leaf, index), chosen)
        scale = heads.SIGNED_HYPERBOLIC if config.value_rescaling else heads.IDENTITY
        return head.bellman_target(returns, discount, bootstrap, scale)
