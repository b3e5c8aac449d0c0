"""Twin delayed deep deterministic policy gradients of recurrent agents from replay."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, PyTree

from memorax.algorithms.acting import Timestep, init_network
from memorax.algorithms.configurations import hyperparameters
from memorax.algorithms.continuous_replay import ContinuousReplayAlgorithm, least_value
from memorax.algorithms.replay import ReplayState, learned_from
from memorax.algorithms.schedules import count_skipped_step
from memorax.algorithms.transitions import Sequences, masked_mean
from memorax.buffers import ReplaySample
from memorax.configurations.td3 import TD3Config
from memorax.networks import heads

hyperparameters(TD3Config)


@struct.dataclass
class TD3Learner:
    """The part of the state that gradient steps change.

    Attributes:
        params: Parameters of the ``"actor"`` and the ``"critic"``.
        target_params: Those of the target actor and the target critic.
        optimizer_state: The optimizer's state for each of them.
        num_gradient_steps: Gradient steps of the critic so far, modulo the policy's delay.
    """

    params: PyTree
    target_params: PyTree
    optimizer_state: PyTree
    num_gradient_steps: PyTree


class TD3(ContinuousReplayAlgorithm):
    """Twin delayed deep deterministic policy gradients, recurrent, for continuous actions.

    Actor and critic each have a memory of their own, whose carries acting keeps up to date::

        critic: (Q_i(s, a) - target)^2 / 2
        target: r + g (1 - terminated) min_j Q'_j(s', clip(mu'(s') + clip(noise)))
        actor:  - Q_1(s, mu(s))

    The actor and both targets are updated once every ``policy_delay`` gradient steps of the critic.
    Acting adds Gaussian noise to the policy's actions and clips them to their bounds; until
    learning starts, actions are drawn uniformly within them. Evaluation adds no noise. In all of
    this an action is that of the unit box: its bounds are brought to -1 and 1.

    See ``ReplayAlgorithm`` for what a sequence holds.

    Args:
        config: The hyperparameters.
        env: An ``Environment`` or a Gymnax environment of continuous actions, not vectorised.
        env_params: Its parameters.
        actor: A network whose head is ``heads.Deterministic``, with the bounds of the actions.
        critic: A network whose head values given actions: ``heads.TwinContinuousQNetwork``.
        optimizer: Applied to each network by itself. A schedule counts the steps of the critic, for
            the actor too.

    Raises:
        ValueError: If the networks do not fit the environment, or the replay would not fit into
            memory. Nothing has been compiled or allocated by then.

    Source: Fujimoto et al. 2018, arXiv 1802.09477; recurrent: Ni et al. 2022, arXiv 2110.05038.

    Examples:
        >>> pendulum, params = environments.make("memory::StatelessPendulumEasy")
        >>> actor = network(heads.Deterministic(1, low=-2.0, high=2.0))
        >>> critic = Network(
        ...     FeatureExtractor(nn.Dense(8)), RNN(nn.GRUCell(8)), heads.TwinContinuousQNetwork()
        ... )
        >>> agent = TD3(TD3Config(), pendulum, params, actor, critic, optax.adam(3e-4))
        >>> state = jax.eval_shape(agent.init, key)
    """

    config: TD3Config
    policy_head_type = heads.Deterministic

    def _init_learner(self, key: Array, timestep: Timestep) -> TD3Learner:
        keys = dict(zip(self.networks, jax.random.split(key), strict=True))
        params = {
            name: init_network(network, keys[name], timestep)
            for name, network in self.networks.items()
        }
        optimizer_state = {name: self.optimizer.init(params[name]) for name in params}
        return TD3Learner(params, params, optimizer_state, jnp.int32(0))

    def _explore(self, state: ReplayState, key: Array, distribution: Any) -> Array:
        noise_key, random_key = jax.random.split(key)
        action = self._in_unit_box(distribution.mode())
        noise = jax.random.normal(noise_key, action.shape, action.dtype)
        noisy = jnp.clip(action + self.config.exploration_noise * noise, -1, 1)
        drawn = jax.random.uniform(random_key, action.shape, action.dtype, -1, 1)
        started = state.num_updates >= self.config.first_learning_update
        return jnp.where(started, noisy, drawn) * self._reach + self._centre

    def _learn(self, learner: TD3Learner, sample: ReplaySample, key: Array):
        (_, metrics), gradients = jax.value_and_grad(self._loss, has_aux=True)(
            learner.params, learner.target_params, sample.sequences, key
        )
        params, optimizer_state = {}, {}
        for name, gradient in gradients.items():
            updates, optimizer_state[name] = self.optimizer.update(
                gradient, learner.optimizer_state[name], learner.params[name]
            )
            params[name] = optax.apply_updates(learner.params[name], updates)
        num_gradient_steps = (learner.num_gradient_steps + 1) % self.config.policy_delay
        target_params = self._move_target(params, learner.target_params)
        moved = TD3Learner(params, target_params, optimizer_state, num_gradient_steps)
        waiting = TD3Learner(
            params | {"actor": learner.params["actor"]},
            learner.target_params,
            optimizer_state | {"actor": count_skipped_step(learner.optimizer_state["actor"])},
            num_gradient_steps,
        )
        due = num_gradient_steps == 0
        learner = jax.tree.map(partial(jnp.where, due), moved, waiting)
        metrics["gradient_norm"] = optax.tree.norm(gradients)
        return learner, None, metrics

    def _loss(self, params: Any, target_params: Any, sequences: Sequences, key: Array):
        """Return the objective to minimise, and metrics."""
        config, critic = self.config, self.networks["critic"]
        learned = learned_from(sequences, config.burn_in_length)
        mask = ~learned.truncated

        target_policy, _ = self._read("actor", target_params["actor"], sequences)
        target_action = self._in_unit_box(target_policy.mode())
        noise = config.target_noise * jax.random.normal(key, target_action.shape)
        noise = jnp.clip(noise, -config.target_noise_clip, config.target_noise_clip)
        target_action = jnp.clip(target_action + noise, -1, 1)
        next_values, _ = self._read("critic", target_params["critic"], sequences, target_action)
        discount = config.gamma * (1.0 - learned.terminated)
        target = learned.reward + discount * least_value(next_values)[:, 1:]
        target = jax.lax.stop_gradient(target)
        values, critic_sown = self._read(
            "critic", params["critic"], sequences, self._taken(learned)
        )
        critic_loss = masked_mean(critic.head.loss(values[:, :-1], target), mask).mean()

        policy, actor_sown = self._read("actor", params["actor"], sequences)
        frozen = jax.lax.stop_gradient(params["critic"])
        action = self._in_unit_box(policy.mode())
        values_of_policy, _ = self._read("critic", frozen, sequences, action)
        first = values_of_policy[..., 0] if values_of_policy.ndim == 3 else values_of_policy
        actor_loss = -masked_mean(first[:, :-1], mask).mean()

        sown = config.sown_loss_coefficient * (actor_sown + critic_sown)
        return critic_loss + actor_loss + sown, {
            "critic_loss": critic_loss,
            "actor_loss": actor_loss,
            "action_value": masked_mean(least_value(values)[:, :-1], mask).mean(),
        }
