"""Proximal policy optimization of recurrent agents."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, PyTree

from memorax.algorithms import returns
from memorax.algorithms.acting import apply_step, episodes_of, read_sequences
from memorax.algorithms.algorithm import Metrics
from memorax.algorithms.checks import (
    check_entropy,
    check_policy,
    check_state_values,
    check_value_clipping,
    shares_a_torso,
)
from memorax.algorithms.configurations import hyperparameters
from memorax.algorithms.demons import DemonSteps, demon_targets
from memorax.algorithms.rollout import RolloutAlgorithm, RolloutState, cut_to_sequences
from memorax.algorithms.transitions import mean_over, take_step, vectorize
from memorax.configurations.ppo import PPOConfig
from memorax.environments import Environment
from memorax.networks import Network, heads

hyperparameters(PPOConfig)


@struct.dataclass
class PPORollout:
    """One rollout. All lead with (time, envs).

    Attributes:
        transitions: The transitions.
        log_prob: Log-probability of the action.
        value: The critic's value while acting.
        demons: The steps of each horde's demons.
        episodes: The arguments of ``episode_metrics``.
    """

    transitions: PyTree
    log_prob: PyTree
    value: PyTree
    demons: PyTree
    episodes: PyTree


@struct.dataclass
class PPOSequences:
    """The input of the loss. All lead with (batch, time) but the carry, which leads with batch.

    Attributes:
        transitions: The transitions.
        log_prob: Log-probability of the action.
        value: The critic's value while acting.
        next_value: Its value of what comes after; only for V-trace, else None.
        advantage: The generalised advantage.
        target: The critic's target.
        demon_targets: The targets of each horde's demons.
        carry: The networks' carries by name before the first step.
    """

    transitions: PyTree
    log_prob: PyTree
    value: PyTree
    next_value: PyTree
    advantage: PyTree
    target: PyTree
    demon_targets: PyTree
    carry: PyTree


class PPO(RolloutAlgorithm):
    """Proximal policy optimization, recurrent, for discrete and continuous actions.

    The loss of a minibatch, with importance ratio r, generalised advantage A, values V and their
    targets A + V_old (or V-trace's of both), is ``_loss``; it averages over steps::

        -min(r A, clip(r, 1 - clip, 1 + clip) A) + value_coefficient value_loss(V, A + V_old)
        - entropy_coefficient entropy + auxiliary losses

    Learning replays each environment's sequence of a rollout in one pass, from the carries that it
    began with, so that the networks compute what they computed while acting: before the first
    update r is 1 for every torso. Minibatches are drawn over environments; only if neither network
    holds a carry over single steps.

    A time limit bootstraps from the value of the true last observation, which the networks read as
    a step of its own that is masked in the loss; after a termination the value is 0. Actions go to
    the environment as they are sampled: wrap an environment of bounded continuous actions in
    ``memorax.environments.ClipAction``.

    Args:
        config: The hyperparameters.
        env: An ``Environment`` or a Gymnax environment, not vectorised.
        env_params: Its parameters.
        actor: A network whose head returns a distribution over actions, or whose head is a
            ``heads.ActorCritic``, which shares one torso between policy and value.
        critic: A network whose head has a ``loss``, such as ``heads.VNetwork``; ``None`` if the
            actor's head is a ``heads.ActorCritic``.
        optimizer: Applied to all networks' parameters together, with any gradient clipping and
            learning rate schedule. Its steps are minibatches, including those that ``target_kl``
            skips.

    Raises:
        ValueError: If the networks do not fit the environment or the configuration. Nothing has
            been compiled by then.

    A critic may learn a distribution (``heads.HLGaussVNetwork``, with ``value_clip_coefficient``
    None). Either head may be a ``heads.Horde``, whose demons learn beside it.

    Besides the metrics of ``Algorithm.train``, ``initial_ratio_error`` is the largest distance of r
    from 1 before a rollout's first minibatch: rounding error, if the networks keep the laws.

    Source: Schulman et al. 2017, arXiv 1707.06347; details after Huang et al. 2022, "The 37
    implementation details of PPO".

    Examples:
        >>> config = PPOConfig(num_envs=2, num_steps=4, num_minibatches=1)
        >>> actor, critic = network(heads.Categorical(2)), network(heads.VNetwork())
        >>> agent = PPO(config, env, env_params, actor, critic, optax.adam(1e-3))
        >>> state = agent.init(key)
        >>> state, metrics = jax.eval_shape(lambda state: agent.train(key, state, 8), state)
    """

    def __init__(
        self,
        config: PPOConfig,
        env: Environment | Any,
        env_params: Any,
        actor: Network,
        critic: Network | None,
        optimizer: optax.GradientTransformation,
    ):
        super().__init__(config, env, env_params)
        shared = shares_a_torso("PPO", actor, critic)
        self.networks = {"actor_critic": actor} if shared else {"actor": actor, "critic": critic}
        # The networks that act and that value; one and the same if they share a torso.
        self._acting, self._valuing = next(iter(self.networks)), list(self.networks)[-1]
        self.optimizer = optimizer
        self._envs = vectorize(self.env, config.num_envs)
        check_policy("PPO.actor", actor, self._envs, env_params)
        check_entropy("PPO.actor", actor)
        valuing = self.networks[self._valuing]
        field = "PPO.actor" if shared else "PPO.critic"
        check_state_values(field, valuing, self._envs, env_params)
        self._value_head = heads.value_head(valuing.head)
        check_value_clipping(config, self._value_head)
        self._hordes = {
            name: network.head
            for name, network in self.networks.items()
            if isinstance(network.head, heads.Horde)
        }
        self._prepare_rollouts()

    @property
    def _networks(self) -> dict[str, Network]:
        return self.networks

    @property
    def _learns_from_sequences(self) -> bool:
        return super()._learns_from_sequences or self.config.advantage == "vtrace"

    @property
    def _stops_early(self) -> bool:
        return self.config.target_kl is not None

    def _stops(self, metrics: Metrics) -> Array:
        return metrics["approximate_kl"] > self.config.target_kl

    def _summary(self, metrics: Metrics, learned: Array) -> Metrics:
        initial_ratio_error = metrics.pop("ratio_error")[0]
        return super()._summary(metrics, learned) | {"initial_ratio_error": initial_ratio_error}

    def _policy(self, state: RolloutState, deterministic: bool):
        """Return the network that acts, its parameters and how it chooses an action."""

        def choose(key, output):
            distribution = heads.policy_output(output)
            return distribution.mode() if deterministic else distribution.sample(seed=key)

        return self.networks[self._acting], state.params[self._acting], choose

    def _rollout(self, state: RolloutState, key: Array) -> tuple[RolloutState, PPORollout]:
        """Act for ``num_steps`` steps in every environment."""
        return jax.lax.scan(self._act, state, jax.random.split(key, self.config.num_steps))

    def _act(self, state: RolloutState, key: Array) -> tuple[RolloutState, PPORollout]:
        """Act once in every environment."""
        action_key, env_key = jax.random.split(key)
        carry, outputs = self._read(state)
        distribution = heads.policy_output(outputs[self._acting])
        action, log_prob = distribution.sample_and_log_prob(seed=action_key)
        action = action[:, 0].astype(state.timestep.action.dtype)
        next_state, transition, info = take_step(
            self._envs, self.env_params, env_key, state, carry, action
        )
        value, predictions = self._expectations(outputs)
        shown_to_demons = heads.DemonTransition(
            state.timestep.observation,
            action,
            transition.reward,
            info["final_observation"],
            transition.terminated,
        )
        demons = {name: DemonSteps(shown_to_demons, predictions[name]) for name in self._hordes}
        return next_state, PPORollout(transition, log_prob[:, 0], value, demons, episodes_of(info))

    def _read(self, state: RolloutState) -> tuple[PyTree, dict[str, Any]]:
        """Apply the networks to the next timestep; return their carries and outputs by name."""
        carries, outputs = {}, {}
        for name, network in self.networks.items():
            carries[name], outputs[name] = apply_step(
                network, state.params[name], state.timestep, state.carry[name]
            )
        return carries, outputs

    def _expectations(self, outputs: dict[str, Any]) -> tuple[Array, dict[str, Any]]:
        """Return the value and the predictions of each horde's demons, ``(envs,)`` each."""
        value = heads.expected_value(heads.value_output(outputs[self._valuing]))
        predictions = {name: heads.predictions(outputs[name]) for name in self._hordes}
        return jax.tree.map(lambda leaf: leaf[:, 0], (value, predictions))

    def _sequences(
        self, state: RolloutState, next_state: RolloutState, rollout: PPORollout
    ) -> PPOSequences:
        """Add advantages and the carries that acting began with; bring the batch to the front."""
        last_value, last_predictions = self._expectations(self._read(next_state)[1])
        values = jnp.concatenate([rollout.value, last_value[None]])
        transitions = rollout.transitions
        reward, discount = returns.bootstrap_truncations(
            transitions, rollout.value, self.config.gamma
        )
        advantage = returns.generalized_advantages(reward, discount, values, self.config.gae_lambda)
        steps = (
            transitions,
            rollout.log_prob,
            rollout.value,
            values[1:] if self.config.advantage == "vtrace" else None,
            advantage,
            advantage + rollout.value,
            {
                name: demon_targets(horde, rollout.demons[name], last_predictions[name])
                for name, horde in self._hordes.items()
            },
        )
        return PPOSequences(*cut_to_sequences(steps, self._sequence_length), carry=state.carry)

    def _loss(self, params: dict[str, PyTree], sequences: PPOSequences) -> tuple[Array, Metrics]:
        """Return the objective to minimise, and metrics."""
        config = self.config
        outputs, sown = {}, jnp.float32(0)
        for name, network in self.networks.items():
            outputs[name], sown_by_network = read_sequences(
                network,
                params[name],
                sequences.transitions.timestep,
                sequences.carry[name],
                config.burn_in_length,
            )
            sown += sown_by_network
        distribution = heads.policy_output(outputs[self._acting])
        value = heads.value_output(outputs[self._valuing])
        learned = jax.tree.map(
            lambda leaf: leaf[:, config.burn_in_length :], replace(sequences, carry={})
        )
        mean = mean_over(~learned.transitions.truncated)
        log_ratio = distribution.log_prob(learned.transitions.action) - learned.log_prob
        ratio = jnp.exp(log_ratio)
        learned = self._corrected(learned, value, ratio)
        advantage = learned.advantage
        if config.normalize_advantage:
            advantage = advantage - mean(advantage)
            advantage = advantage / (jnp.sqrt(mean(advantage**2)) + 1e-8)
        limit = config.clip_coefficient
        policy_loss = mean(returns.clipped_surrogate_loss(ratio, advantage, limit))
        value_loss = mean(self._value_loss(value, learned, mean))
        entropy = mean(distribution.entropy())
        demon_losses = [
            mean(horde.loss(outputs[name], learned.demon_targets[name]))
            for name, horde in self._hordes.items()
        ]
        auxiliary_loss = jnp.asarray(sum(demon_losses))
        loss = (
            policy_loss
            + config.value_coefficient * value_loss
            - config.entropy_coefficient * entropy
            + config.auxiliary_coefficient * auxiliary_loss
            + config.sown_loss_coefficient * sown
        )
        auxiliary = {"auxiliary_loss": auxiliary_loss} if self._hordes else {}
        return loss, auxiliary | {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "approximate_kl": mean(ratio - 1 - log_ratio),
            "clip_fraction": mean(jnp.abs(ratio - 1) > limit),
            "ratio_error": jnp.abs(ratio - 1).max(),
        }

    def _corrected(self, learned: PPOSequences, value: PyTree, ratio: Array) -> PPOSequences:
        """Return the sequences with V-trace's advantages and targets, if these are chosen."""
        config = self.config
        if config.advantage == "gae":
            return learned
        values, ratio = jax.lax.stop_gradient((heads.expected_value(value), ratio))
        reward, discount = returns.bootstrap_truncations(learned.transitions, values, config.gamma)
        # What comes after the last step is not read again.
        values = jnp.concatenate([values, learned.next_value[:, -1:]], axis=1)
        options = config.gae_lambda, config.clip_rho_threshold, config.clip_c_threshold
        advantage, target = jax.vmap(returns.vtrace, in_axes=(0, 0, 0, 0, None, None, None))(
            reward, discount, values, ratio, *options
        )
        return replace(learned, advantage=advantage, target=target)

    def _value_loss(self, value, learned, mean):
        """Return each step's value loss, which does not grow with the size of returns."""
        loss, limit = self._value_head.loss, self.config.value_clip_coefficient
        if isinstance(self._value_head, heads.HLGaussVNetwork):
            return loss(value, learned.target)
        return returns.scaled_value_loss(loss, value, learned.value, learned.target, mean, limit)
