"""Soft actor-critic of recurrent agents from replay."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, PyTree

from memorax.algorithms.acting import Timestep, init_network
from memorax.algorithms.configurations import hyperparameters
from memorax.algorithms.continuous_replay import ContinuousReplayAlgorithm, least_value
from memorax.algorithms.replay import learned_from
from memorax.algorithms.transitions import Sequences, masked_mean
from memorax.buffers import ReplaySample
from memorax.configurations.sac import SACConfig
from memorax.networks import heads

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


class SAC(ContinuousReplayAlgorithm):
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

    policy_head_type = heads.SquashedGaussian

    @property
    def _temperature(self) -> heads.Temperature:
        entropy = self.config.target_entropy
        return heads.Temperature(
            target_entropy=-float(self._reach.size) if entropy is None else entropy,
            initial_temperature=self.config.initial_temperature,
        )

    def _init_learner(self, key: Array, timestep: Timestep) -> SACLearner:
        actor_key, critic_key, temperature_key = jax.random.split(key, 3)
        params = {
            "actor": init_network(self.networks["actor"], actor_key, timestep),
            "critic": init_network(self.networks["critic"], critic_key, timestep),
            "temperature": self._temperature.init(temperature_key),
        }
        return SACLearner(params, params["critic"], self.optimizer.init(params))

    def _learn(self, learner: SACLearner, sample: ReplaySample, key: Array):
        (_, metrics), gradients = jax.value_and_grad(self._loss, has_aux=True)(
            learner.params, learner.target_params, sample.sequences, key
        )
        updates, optimizer_state = self.optimizer.update(
            gradients, learner.optimizer_state, learner.params
        )
        params: Any = optax.apply_updates(learner.params, updates)
        target_params = self._move_target(params["critic"], learner.target_params)
        metrics["gradient_norm"] = optax.tree.norm(gradients)
        return SACLearner(params, target_params, optimizer_state), None, metrics

    def _loss(self, params: Any, target_params: PyTree, sequences: Sequences, key: Array):
        """Return the objective to minimise, and metrics."""
        config, critic = self.config, self.networks["critic"]
        learned = learned_from(sequences, config.burn_in_length)
        mask = ~learned.truncated

        read = partial(self._read, sequences=sequences)
        temperature = jnp.asarray(self._temperature.apply(params["temperature"]))
        alpha = jax.lax.stop_gradient(temperature)
        distribution, actor_sown = read("actor", params["actor"])
        action, log_prob = distribution.sample_and_log_prob(seed=key)
        action = self._in_unit_box(action)
        log_prob += np.log(self._reach).sum()

        target_values, _ = read("critic", target_params, candidate_action=action)
        next_value = (least_value(target_values) - alpha * log_prob)[:, 1:]
        discount = config.gamma * (1.0 - learned.terminated)
        target = jax.lax.stop_gradient(learned.reward + discount * next_value)
        taken = self._taken(learned)
        values, critic_sown = read("critic", params["critic"], candidate_action=taken)
        critic_loss = masked_mean(critic.head.loss(values[:, :-1], target), mask).mean()

        frozen = jax.lax.stop_gradient(params["critic"])
        values_of_policy, _ = read("critic", frozen, candidate_action=action)
        actor_loss = alpha * log_prob - least_value(values_of_policy)
        actor_loss = masked_mean(actor_loss[:, :-1], mask).mean()
        temperature_loss = self._temperature.loss(temperature, log_prob[:, :-1])
        temperature_loss = masked_mean(temperature_loss, mask).mean()

        sown = config.sown_loss_coefficient * (actor_sown + critic_sown)
        return critic_loss + actor_loss + temperature_loss + sown, {
            "critic_loss": critic_loss,
            "actor_loss": actor_loss,
            "action_value": masked_mean(least_value(values)[:, :-1], mask).mean(),
            "entropy": -masked_mean(log_prob[:, :-1], mask).mean(),
            "temperature": temperature,
        }
