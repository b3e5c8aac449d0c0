"""Soft actor-critic of recurrent agents from replay."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, PyTree

from memorax.algorithms.acting import (
    Timestep,
    apply_step,
    init_network,
    read_sequences,
)
from memorax.algorithms.checks import check_policy
from memorax.algorithms.configurations import hyperparameters
from memorax.algorithms.replay import (
    ReplayAlgorithm,
    ReplayState,
    learned_from,
)
from memorax.algorithms.transitions import Sequences, masked_mean
from memorax.buffers import ReplaySample
from memorax.configurations.sac import SACConfig
from memorax.dtypes import as_before
from memorax.environments import Box, Environment
from memorax.environments.checks import check_action_space
from memorax.networks import Network, heads
from memorax.networks.heads.base import takes

hyperparameters(SACConfig)


@struct.dataclass
class SACLearner:
    """The part of the state that gradient steps change.

    Attributes:
        params: Parameters of the ``"actor"``, the ``"critic"`` and the ``"temperature"``.
        target_params: Those of the target critic.
        optimizer_state: The optimizer's state for all of ``params``.
    """

    params: PyTree
    target_params: PyTree
    optimizer_state: PyTree


class SAC(ReplayAlgorithm):
    """Soft actor-critic, recurrent, for continuous actions.

    Actor and critic each have a memory of their own, whose carries acting keeps up to date. All
    three losses are minimised in one step, each reaching its own parameters alone:

        critic:      (Q_i(s, a) - target)^2 / 2
        target:      r + g (1 - terminated) (min_j Q'_j(s', a') - alpha log p(a'))
        actor:       alpha log p(a) - min_i Q_i(s, a), with a drawn anew
        temperature: -alpha (log p(a) + target_entropy)

    In all of them, and in the metric ``entropy``, an action is that of the unit box: its bounds are
    brought to -1 and 1. So neither densities nor what the critic reads of an action depends on the
    units in which the environment takes it.

    See ``ReplayAlgorithm`` for what a sequence holds.

    Args:
        config: The hyperparameters.
        env: An ``Environment`` or a Gymnax environment of continuous actions, not vectorised.
        env_params: Its parameters.
        actor: A network whose head returns a distribution with ``sample_and_log_prob``, within the
            bounds of the actions: ``heads.SquashedGaussian``.
        critic: A network whose head values given actions: ``heads.TwinContinuousQNetwork``.
        optimizer: Applied to all parameters once a gradient step.

    Raises:
        ValueError: If the networks do not fit the environment, or the replay would not fit into
            memory. Nothing has been compiled or allocated by then.

    Source: Haarnoja et al. 2018, arXiv 1812.05905; recurrent: Ni et al. 2022, arXiv 2110.05038.

    Examples:
        >>> pendulum, params = environments.make("memory::StatelessPendulumEasy")
        >>> actor = network(heads.SquashedGaussian(1, low=-2.0, high=2.0))
        >>> critic = Network(
        ...     FeatureExtractor(nn.Dense(8)), RNN(nn.GRUCell(8)), heads.TwinContinuousQNetwork()
        ... )
        >>> agent = SAC(SACConfig(), pendulum, params, actor, critic, optax.adam(3e-4))
        >>> state = jax.eval_shape(agent.init, key)
    """

    config: SACConfig

    def __init__(
        self,
        config: SACConfig,
        env: Environment | Any,
        env_params: Any,
        actor: Network,
        critic: Network,
        optimizer: optax.GradientTransformation,
    ):
        super().__init__(config, env, env_params)
        self.networks = {"actor": actor, "critic": critic}
        self.optimizer = optimizer
        space = self.env.action_space(env_params)
        if not isinstance(space, Box):
            raise ValueError(f"SAC acts continuously, got the action space {space}")
        check_action_space("SAC.actor", space, bounded=True)
        check_policy("SAC.actor", actor, self._envs, env_params)
        self._check_bounds(actor.head, space)
        low, high = (
            np.broadcast_to(np.asarray(bound, np.float32), space.shape)
            for bound in (space.low, space.high)
        )
        self._centre, self._reach = (low + high) / 2, (high - low) / 2
        values_actions = takes(critic.head, "candidate_action") and hasattr(critic.head, "loss")
        if not values_actions or isinstance(critic.head, heads.Horde):
            raise ValueError(
                "SAC.critic.head must value given actions, such as TwinContinuousQNetwork(), got "
                f"{type(critic.head).__name__}"
            )
        self._prepare_replay()

    @property
    def _temperature(self) -> heads.Temperature:
        entropy = self.config.target_entropy
        return heads.Temperature(
            target_entropy=-float(self._reach.size) if entropy is None else entropy,
            initial_temperature=self.config.initial_temperature,
        )

    def _check_bounds(self, head: Any, space: Box) -> None:
        if not isinstance(head, heads.SquashedGaussian):
            raise ValueError(
                "SAC.actor.head must keep within the bounds of the actions, such as "
                f"SquashedGaussian, got {type(head).__name__}"
            )
        for name in ("low", "high"):
            bound = np.asarray(getattr(space, name), np.float32)
            if not np.all(np.isclose(bound, np.asarray(getattr(head, name), np.float32))):
                raise ValueError(
                    f"SAC.actor.head.{name} must be that of the action space, {bound}, got "
                    f"{getattr(head, name)}"
                )

    def _in_unit_box(self, action: Array) -> Array:
        """Return actions with their bounds brought to -1 and 1."""
        return (action - self._centre) / self._reach

    def _initial_carry(self) -> PyTree:
        return {
            name: network.initialize_carry(self.config.num_envs)
            for name, network in self.networks.items()
        }

    def _init_learner(self, key: Array, timestep: Timestep) -> SACLearner:
        actor_key, critic_key, temperature_key = jax.random.split(key, 3)
        params = {
            "actor": init_network(self.networks["actor"], actor_key, timestep),
            "critic": init_network(self.networks["critic"], critic_key, timestep),
            "temperature": self._temperature.init(temperature_key),
        }
        return SACLearner(params, params["critic"], self.optimizer.init(params))

    def _policy(self, state: ReplayState, deterministic: bool):
        """Return what acts: the network, its parameters and how it chooses."""

        def choose(key, distribution):
            return distribution.mode() if deterministic else distribution.sample(seed=key)

        return self.networks["actor"], state.params["actor"], choose

    def _choose(self, state: ReplayState, key: Array) -> tuple[PyTree, Array]:
        apply = {
            name: partial(
                apply_step, network, state.params[name], state.timestep, state.carry[name]
            )
            for name, network in self.networks.items()
        }
        actor_carry, distribution = apply["actor"]()
        # Of the critic only its memory is asked, which no candidate action enters.
        critic_carry, _ = apply["critic"]()
        action = distribution.sample(seed=key)[:, 0].astype(state.timestep.action.dtype)
        return {"actor": actor_carry, "critic": critic_carry}, action

    def _learn(self, learner: SACLearner, sample: ReplaySample, key: Array):
        (_, metrics), gradients = jax.value_and_grad(self._loss, has_aux=True)(
            learner.params, learner.target_params, sample.sequences, key
        )
        updates, optimizer_state = self.optimizer.update(
            gradients, learner.optimizer_state, learner.params
        )
        params: Any = optax.apply_updates(learner.params, updates)
        moved = optax.incremental_update(
            params["critic"], learner.target_params, self.config.target_update_rate
        )
        # The rate is of 32 bits, and would widen parameters of 16.
        target_params = as_before(learner.target_params, moved)
        metrics["gradient_norm"] = optax.tree.norm(gradients)
        return SACLearner(params, target_params, optimizer_state), None, metrics

    def _loss(self, params: Any, target_params: PyTree, sequences: Sequences, key: Array):
        """Return the objective to minimise, and metrics."""
        config, critic = self.config, self.networks["critic"]
        learned = learned_from(sequences, config.burn_in_length)
        mask = ~learned.truncated

        def read(name, params, candidate_action=None):
            return read_sequences(
                self.networks[name],
                params,
                sequences.timestep,
                sequences.carry[name],
                config.burn_in_length,
                candidate_action,
            )

        temperature = jnp.asarray(self._temperature.apply(params["temperature"]))
        alpha = jax.lax.stop_gradient(temperature)
        distribution, actor_sown = read("actor", params["actor"])
        action, log_prob = distribution.sample_and_log_prob(seed=key)
        action = self._in_unit_box(action)
        log_prob += np.log(self._reach).sum()

        target_values, _ = read("critic", target_params, action)
        next_value = (_least(target_values) - alpha * log_prob)[:, 1:]
        discount = config.gamma * (1.0 - learned.terminated)
        target = jax.lax.stop_gradient(learned.reward + discount * next_value)
        # The last timestep is only bootstrapped from: any action will do there.
        taken = jnp.concatenate([learned.action, learned.action[:, -1:]], axis=1)
        taken = self._in_unit_box(taken)
        values, critic_sown = read("critic", params["critic"], taken)
        critic_loss = masked_mean(critic.head.loss(values[:, :-1], target), mask).mean()

        frozen = jax.lax.stop_gradient(params["critic"])
        values_of_policy, _ = read("critic", frozen, action)
        actor_loss = alpha * log_prob - _least(values_of_policy)
        actor_loss = masked_mean(actor_loss[:, :-1], mask).mean()
        temperature_loss = self._temperature.loss(temperature, log_prob[:, :-1])
        temperature_loss = masked_mean(temperature_loss, mask).mean()

        sown = config.sown_loss_coefficient * (actor_sown + critic_sown)
        return critic_loss + actor_loss + temperature_loss + sown, {
            "critic_loss": critic_loss,
            "actor_loss": actor_loss,
            "action_value": masked_mean(_least(values)[:, :-1], mask).mean(),
            "entropy": -masked_mean(log_prob[:, :-1], mask).mean(),
            "temperature": temperature,
        }


def _least(values: Array) -> Array:
    """Return the least of the critics' values, or the only one's."""
    return values.min(axis=-1) if values.ndim == 3 else values
