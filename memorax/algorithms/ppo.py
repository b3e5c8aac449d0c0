"""Proximal policy optimization of recurrent agents."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, PyTree

from memorax.algorithms.acting import (
    Timestep,
    apply_step,
    check_policy,
    check_state_values,
    episode_metrics,
    first_timestep,
    init_network,
    read_sequences,
)
from memorax.algorithms.algorithm import Algorithm, Metrics
from memorax.algorithms.configurations import hyperparameters
from memorax.algorithms.returns import clipped_surrogate_loss, generalized_advantages
from memorax.algorithms.rollouts import (
    check_minibatches,
    cut_to_sequences,
    minibatch_indices,
    rollout_sequence_length,
    take_minibatch,
)
from memorax.algorithms.schedules import count_skipped_step
from memorax.algorithms.sharding import gather_batch, is_sharded
from memorax.environments import Environment, RecordEpisodeStatistics, Vectorize
from memorax.networks import Network, heads
from memorax.validation import check_between, check_positive, check_whole


@hyperparameters
@dataclass(frozen=True)
class PPOConfig:
    """What PPO does; defaults as in Schulman et al. 2017 and its common implementations.

    Raises:
        ValueError: If a value is out of its range, ``num_envs * num_steps`` is not divisible by
            ``num_minibatches``, ``burn_in_length`` leaves nothing to learn from, or advantages are
            normalised over a single step.
    """

    num_envs: int = 16
    """Environments that run side by side."""
    num_steps: int = 128
    """Steps of each environment between updates: the length of the sequences learned from."""
    num_minibatches: int = 4
    """Parts that a rollout is split into; whole sequences, unless the networks hold no carry."""
    update_epochs: int = 4
    """Times that each rollout is learned from."""
    gamma: float = 0.99
    """Discount of a reward one step later."""
    gae_lambda: float = 0.95
    """Mix of generalised advantage estimation: 0 trusts the critic, 1 the returns."""
    clip_coefficient: float = 0.2
    """How far the importance ratio may leave 1 before its gradient is cut."""
    value_clip_coefficient: float | None = 0.2
    """How far a value may leave its old one before its gradient is cut, in standard deviations of a
    minibatch's targets where these are above 1; None: no clipping."""
    value_coefficient: float = 0.5
    """Weight of the value loss."""
    auxiliary_coefficient: float = 0.5
    """Weight of the loss of a horde's demons, if a network's head is a Horde."""
    entropy_coefficient: float = 0.01
    """Weight of the policy's entropy."""
    normalize_advantage: bool = True
    """Bring the advantages of a minibatch, of at least 2 steps, to mean 0 and standard deviation
    1."""
    sown_loss_coefficient: float = 1.0
    """Weight of what the networks' parts sow under losses, as a mixture of experts' balance."""
    burn_in_length: int = 0
    """First steps of each sequence that only refresh the carry and are not learned from."""
    target_kl: float | None = None
    """Skip the rest of an update once a minibatch's approximate KL exceeds this; None: never."""

    def __post_init__(self):
        """Check the fields."""
        for field in ("num_envs", "num_steps", "num_minibatches", "update_epochs"):
            check_positive(f"PPOConfig.{field}", getattr(self, field))
        for field in ("gamma", "gae_lambda"):
            check_between(f"PPOConfig.{field}", getattr(self, field), 0.0, 1.0)
        for field in (
            "clip_coefficient",
            "value_coefficient",
            "auxiliary_coefficient",
            "entropy_coefficient",
            "sown_loss_coefficient",
        ):
            check_between(f"PPOConfig.{field}", getattr(self, field), 0.0)
        for field in ("value_clip_coefficient", "target_kl"):
            if getattr(self, field) is not None:
                check_between(f"PPOConfig.{field}", getattr(self, field), 0.0)
        check_minibatches(self)
        # At least one step has to remain to learn from.
        check_whole("PPOConfig.burn_in_length", self.burn_in_length, 0, self.num_steps - 1)
        learned_steps = self.num_envs * (self.num_steps - self.burn_in_length)
        if self.normalize_advantage and learned_steps == self.num_minibatches:
            raise ValueError(
                "PPOConfig.normalize_advantage needs minibatches of at least 2 steps, since the "
                "advantage of a single one becomes 0 and the actor learns nothing, got "
                f"num_envs={self.num_envs}, num_steps={self.num_steps}, "
                f"burn_in_length={self.burn_in_length}, num_minibatches={self.num_minibatches}"
            )

    def optimizer_steps(self, num_updates: int) -> int:
        """Return the steps of the optimizer in the first updates of a run."""
        return num_updates * self.update_epochs * self.num_minibatches


@struct.dataclass
class PPOState:
    """Everything that training needs to go on.

    Attributes:
        num_updates: Rollouts learned from so far.
        params: Parameters of the ``"actor"`` and the ``"critic"``, or of the ``"actor_critic"``.
        optimizer_state: The optimizer's state for both.
        env_state: The environments' state.
        timestep: What the networks read next.
        carry: The networks' carries by the same names, before they read it.
    """

    num_updates: PyTree
    params: PyTree
    optimizer_state: PyTree
    env_state: PyTree
    timestep: PyTree
    carry: PyTree


@struct.dataclass
class Rollout:
    """What acting leaves to learn from. All lead with (time, envs), later with (batch, time).

    Attributes:
        timestep: What the networks read.
        action: What the actor then did.
        log_prob: How likely it was to.
        value: What the critic expected.
        reward: What came of it; at a time limit, with the discounted value of what was cut off.
        ended: True where the action ended the episode.
        demons: What the demons of each horde learn from.
        episode_return: The return of the episode up to and with the action.
        episode_length: The steps of the episode up to and with the action.
        episode_changed_return: The return of what wrappers made of the rewards, None if nothing.
    """

    timestep: PyTree
    action: PyTree
    log_prob: PyTree
    value: PyTree
    reward: PyTree
    ended: PyTree
    demons: PyTree
    episode_return: PyTree
    episode_length: PyTree
    episode_changed_return: PyTree


@struct.dataclass
class DemonSteps:
    """What the demons of one horde learn from. All lead with (time, envs).

    Attributes:
        transition: What happened, as demons are shown it.
        predictions: What each expected before.
        cut_off: True where a time limit ended the episode.
        predictions_cut_off: What each would have expected next there, elsewhere 0.
    """

    transition: PyTree
    predictions: PyTree
    cut_off: PyTree
    predictions_cut_off: PyTree


@struct.dataclass
class Sequences:
    """What the loss reads. All lead with (batch, time) but the carry, which leads with batch.

    Attributes:
        timestep: What the networks read.
        action: What the actor then did.
        log_prob: How likely it was to.
        value: What the critic expected.
        advantage: How much better than expected it turned out.
        target: What the critic should have expected.
        demon_targets: What the demons of each horde should have expected.
        carry: The networks' carries by name before the first step.
    """

    timestep: PyTree
    action: PyTree
    log_prob: PyTree
    value: PyTree
    advantage: PyTree
    target: PyTree
    demon_targets: PyTree
    carry: PyTree


class PPO(Algorithm):
    """Proximal policy optimization, recurrent, for discrete and continuous actions.

    A rollout keeps the carries it began with. Learning replays each environment's sequence from
    there in one pass, in the order it happened, so that the networks compute what they computed
    while acting: before the first update the importance ratio is 1 for every torso. Minibatches
    are drawn over environments; only if neither network holds a carry over single steps.

    A time limit bootstraps from the value of the true last observation; a termination is worth
    nothing more. Actions go to the environment as they are drawn: wrap a bounded continuous one
    in ``memorax.environments.ClipAction``.

    Args:
        config: What PPO does.
        env: An ``Environment`` or a Gymnax environment, not vectorised.
        env_params: Its parameters.
        actor: A network whose head returns a distribution over actions, or whose head is a
            ``heads.ActorCritic``, which shares one torso between policy and value.
        critic: A network whose head has a ``loss``, such as ``heads.VNetwork``; ``None`` if the
            actor's head is a ``heads.ActorCritic``.
        optimizer: Applied to all networks' parameters at once; gradient clipping and learning
            rate schedules are its business, which counts minibatches, those that ``target_kl``
            skips too.

    Raises:
        ValueError: If the networks do not fit the environment or the configuration. Nothing has
            been compiled by then.

    A critic may learn a distribution (``heads.HLGaussVNetwork``, with ``value_clip_coefficient``
    None). Either head may be a ``heads.Horde``, whose demons learn beside it.

    Besides what ``Algorithm.train`` promises, ``initial_ratio_error`` is the largest distance of
    the importance ratio from 1 before a rollout's first minibatch: rounding, if the networks keep
    the laws.

    Source: Schulman et al. 2017, arXiv 1707.06347; details after Huang et al. 2022, "The 37
    implementation details of PPO".
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
        shared = isinstance(heads.main_head(actor.head), heads.ActorCritic)
        if shared != (critic is None):
            got = "None" if critic is None else type(critic).__name__
            raise ValueError(
                "PPO.critic must be None if PPO.actor.head is an ActorCritic, else a network, got "
                f"{got} beside an actor whose head is {type(heads.main_head(actor.head)).__name__}"
            )
        self.networks = {"actor_critic": actor} if critic is None else {"actor": actor}
        if critic is not None:
            if isinstance(heads.main_head(critic.head), heads.ActorCritic):
                raise ValueError(
                    "PPO.critic.head must value states, such as VNetwork(), got ActorCritic"
                )
            self.networks["critic"] = critic
        # The networks that act and that value; one and the same if they share a torso.
        self._acting, self._valuing = next(iter(self.networks)), list(self.networks)[-1]
        self.optimizer = optimizer
        self._envs = Vectorize(RecordEpisodeStatistics(self.env), config.num_envs)
        check_policy("PPO.actor", actor, self._envs, env_params)
        if isinstance(heads.policy_head(actor.head), heads.SquashedGaussian):
            raise ValueError(
                "PPO.actor.head must be a distribution whose entropy is known, such as Gaussian in "
                "memorax.environments.ClipAction, got SquashedGaussian"
            )
        valuing = self.networks[self._valuing]
        field = "PPO.actor" if critic is None else "PPO.critic"
        check_state_values(field, valuing, self._envs, env_params)
        self._value_head = heads.value_head(valuing.head)
        clipped = config.value_clip_coefficient is not None
        if clipped and isinstance(self._value_head, heads.HLGaussVNetwork):
            raise ValueError(
                "PPOConfig.value_clip_coefficient must be None for HLGaussVNetwork, since a "
                f"distribution has no distance to clip, got {config.value_clip_coefficient}"
            )
        self._hordes = {
            name: network.head
            for name, network in self.networks.items()
            if isinstance(network.head, heads.Horde)
        }
        # The networks that say what to expect: an actor without demons need not be asked.
        self._expecting = [
            name for name in self.networks if name == self._valuing or name in self._hordes
        ]
        carry = jax.eval_shape(self._initial_carry)
        self._sequence_length = rollout_sequence_length(config, carry)

    @property
    def steps_per_update(self) -> int:
        """Environment steps between updates, over all environments."""
        return self.config.num_envs * self.config.num_steps

    def _init(self, key: Array) -> PPOState:
        """Return the state before the first step."""
        env_key, *network_keys = jax.random.split(key, 1 + len(self.networks))
        timestep, env_state = first_timestep(self._envs, self.env_params, env_key)
        params = {
            name: init_network(network, network_key, timestep)
            for (name, network), network_key in zip(
                self.networks.items(), network_keys, strict=True
            )
        }
        return PPOState(
            num_updates=jnp.int32(0),
            params=params,
            optimizer_state=self.optimizer.init(params),
            env_state=env_state,
            timestep=timestep,
            carry=self._initial_carry(),
        )

    @property
    def batch_sequences(self) -> int:
        """Sequences of a minibatch."""
        return self.steps_per_update // self._sequence_length // self.config.num_minibatches

    def policy(self, state: PPOState, deterministic: bool):
        """Return what acts: the network, its parameters and how it chooses."""

        def choose(key, output):
            distribution = heads.policy_output(output)
            return distribution.mode() if deterministic else distribution.sample(seed=key)

        return self.networks[self._acting], state.params[self._acting], choose

    def _initial_carry(self):
        return {
            name: network.initialize_carry(self.config.num_envs)
            for name, network in self.networks.items()
        }

    def _update(self, state: PPOState, key: Array) -> tuple[PPOState, Metrics]:
        """Act, then learn."""
        act_key, learn_key = jax.random.split(key)
        next_state, rollout = self._rollout(state, act_key)
        sequences = self._sequences(state, next_state, rollout)
        params, optimizer_state, metrics = self._learn(state, sequences, learn_key)
        next_state = replace(
            next_state,
            num_updates=optax.safe_increment(state.num_updates),
            params=params,
            optimizer_state=optimizer_state,
        )
        return next_state, metrics | episode_metrics(
            *(rollout.ended, rollout.episode_return),
            *(rollout.episode_length, rollout.episode_changed_return),
        )

    def _rollout(self, state: PPOState, key: Array) -> tuple[PPOState, Rollout]:
        """Act for ``num_steps`` steps in every environment."""
        return jax.lax.scan(self._act, state, jax.random.split(key, self.config.num_steps))

    def _act(self, state: PPOState, key: Array) -> tuple[PPOState, Rollout]:
        """Act once in every environment."""
        action_key, env_key = jax.random.split(key)
        carry, outputs = self._read(state, state.timestep, self.networks)
        distribution = heads.policy_output(outputs[self._acting])
        action, log_prob = distribution.sample_and_log_prob(seed=action_key)
        action = action[:, 0].astype(state.timestep.action.dtype)
        observation, env_state, reward, terminated, truncated, info = self._envs.step(
            env_key, state.env_state, action, self.env_params
        )
        ended = terminated | truncated
        next_state = replace(
            state,
            env_state=env_state,
            timestep=Timestep(observation, ended, action, reward),
            carry=carry,
        )
        # What the networks would have read next had the time limit not struck.
        cut_off = Timestep(info["final_observation"], jnp.zeros_like(ended), action, reward)
        limited = truncated & ~terminated
        expected = self._expectations(outputs)
        value_cut_off, predictions_cut_off = jax.lax.cond(
            # To ask all devices would take longer than to have it computed.
            is_sharded() or jnp.any(limited),
            lambda: self._expectations(self._read(next_state, cut_off, self._expecting)[1]),
            lambda: jax.tree.map(jnp.zeros_like, expected),
        )
        value, predictions = expected
        transition = heads.Transition(
            state.timestep.observation, action, reward, info["final_observation"], terminated
        )
        rollout = Rollout(
            timestep=state.timestep,
            action=action,
            log_prob=log_prob[:, 0],
            value=value,
            reward=reward + self.config.gamma * jnp.where(limited, value_cut_off, 0),
            ended=ended,
            demons={
                name: DemonSteps(transition, predictions[name], limited, predictions_cut_off[name])
                for name in self._hordes
            },
            episode_return=info["episode_return"],
            episode_length=info["episode_length"],
            episode_changed_return=info.get("episode_changed_return"),
        )
        return next_state, rollout

    def _read(
        self, state: PPOState, timestep: Timestep, names: Iterable[str]
    ) -> tuple[PyTree, dict[str, Any]]:
        """Show a timestep to the networks of these names; return their carries and outputs."""
        carries, outputs = {}, {}
        for name in names:
            carries[name], outputs[name] = apply_step(
                self.networks[name], state.params[name], timestep, state.carry[name]
            )
        return carries, outputs

    def _expectations(self, outputs: dict[str, Any]) -> tuple[Array, dict[str, Any]]:
        """Return the critic's value, and what each horde's demons predict, ``(envs,)`` each."""
        value = heads.expected_value(heads.value_output(outputs[self._valuing]))
        predictions = {name: heads.predictions(outputs[name]) for name in self._hordes}
        return jax.tree.map(lambda leaf: leaf[:, 0], (value, predictions))

    def _sequences(self, state: PPOState, next_state: PPOState, rollout: Rollout) -> Sequences:
        """Add advantages and the carries that acting began with; bring the batch to the front."""
        _, last_outputs = self._read(next_state, next_state.timestep, self._expecting)
        last_value, last_predictions = self._expectations(last_outputs)
        values = jnp.concatenate([rollout.value, last_value[None]])
        discount = self.config.gamma * (1.0 - rollout.ended)
        advantage = generalized_advantages(rollout.reward, discount, values, self.config.gae_lambda)
        steps = (
            rollout.timestep,
            rollout.action,
            rollout.log_prob,
            rollout.value,
            advantage,
            advantage + rollout.value,
            {
                name: _demon_targets(horde, rollout.demons[name], last_predictions[name])
                for name, horde in self._hordes.items()
            },
        )
        return Sequences(*cut_to_sequences(steps, self._sequence_length), carry=state.carry)

    def _learn(self, state: PPOState, sequences: Sequences, key: Array):
        """Run the epochs; return parameters, the optimizer's state and metrics."""
        config = self.config

        def minibatch_step(learner, indices):
            params, optimizer_state, stopped = learner
            minibatch = take_minibatch(sequences, indices)
            (_, metrics), gradients = jax.value_and_grad(self._loss, has_aux=True)(
                params, minibatch
            )
            metrics["gradient_norm"] = optax.tree.norm(gradients)
            updates, next_optimizer_state = self.optimizer.update(
                gradients, optimizer_state, params
            )
            next_params = optax.apply_updates(params, updates)
            if config.target_kl is not None:
                stopped = metrics["approximate_kl"] > config.target_kl
                next_params, next_optimizer_state = jax.tree.map(
                    lambda old, new: jnp.where(stopped, old, new),
                    (params, count_skipped_step(optimizer_state)),
                    (next_params, next_optimizer_state),
                )
            return (next_params, next_optimizer_state, stopped), metrics

        def skipped(learner):
            params, optimizer_state, stopped = learner
            return params, count_skipped_step(optimizer_state), stopped

        def unless_stopped(learner, indices):
            if config.target_kl is None:
                learner, metrics = minibatch_step(learner, indices)
                return learner, (metrics, 1.0)
            _, empty = jax.eval_shape(minibatch_step, learner, indices)
            stopped = learner[-1]
            learner, metrics = jax.lax.cond(
                stopped,
                lambda: (skipped(learner), jax.tree.map(jnp.zeros_like, empty)),
                lambda: minibatch_step(learner, indices),
            )
            return learner, (metrics, 1.0 - stopped)

        num_sequences = sequences.log_prob.shape[0]
        sequences = gather_batch(sequences)
        indices = minibatch_indices(
            key, num_sequences, config.update_epochs, config.num_minibatches
        )
        (params, optimizer_state, _), (metrics, counted) = jax.lax.scan(
            unless_stopped, (state.params, state.optimizer_state, jnp.bool_(False)), indices
        )
        initial_ratio_error = metrics.pop("ratio_error")[0]
        metrics = jax.tree.map(lambda leaf: jnp.sum(leaf * counted) / jnp.sum(counted), metrics)
        metrics["initial_ratio_error"] = initial_ratio_error
        return params, optimizer_state, metrics

    def _loss(self, params: dict[str, PyTree], sequences: Sequences) -> tuple[Array, Metrics]:
        """Return the objective to minimise, and metrics."""
        config = self.config
        outputs, sown = {}, jnp.float32(0)
        for name in self.networks:
            outputs[name], sown_by_network = self._replay(name, params, sequences)
            sown += sown_by_network
        distribution = heads.policy_output(outputs[self._acting])
        value = heads.value_output(outputs[self._valuing])
        learned = jax.tree.map(
            lambda leaf: leaf[:, config.burn_in_length :], replace(sequences, carry={})
        )
        log_ratio = distribution.log_prob(learned.action) - learned.log_prob
        ratio = jnp.exp(log_ratio)
        advantage = learned.advantage
        if config.normalize_advantage:
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        policy_loss = clipped_surrogate_loss(ratio, advantage, config.clip_coefficient)
        value_loss = self._value_loss(value, learned).mean()
        entropy = distribution.entropy().mean()
        demon_losses = [
            horde.loss(outputs[name], learned.demon_targets[name]).mean()
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
            "approximate_kl": (ratio - 1 - log_ratio).mean(),
            "clip_fraction": (jnp.abs(ratio - 1) > config.clip_coefficient).mean(),
            "ratio_error": jnp.abs(ratio - 1).max(),
        }

    def _replay(self, name: str, params: dict[str, PyTree], sequences: Sequences):
        """Return a network's output for whole sequences after the burn-in, and what it sows."""
        return read_sequences(
            self.networks[name],
            params[name],
            sequences.timestep,
            sequences.carry[name],
            self.config.burn_in_length,
        )

    def _value_loss(self, value, learned):
        """Return each step's value loss, which does not grow with the size of returns."""
        loss = self._value_head.loss
        if isinstance(self._value_head, heads.HLGaussVNetwork):
            return loss(value, learned.target)
        # Large returns would else outweigh the policy's gradient, and outrun the clipped values.
        unit = jnp.maximum(learned.target.std(), 1.0)
        value, old_value, target = value / unit, learned.value / unit, learned.target / unit
        unclipped = loss(value, target)
        if self.config.value_clip_coefficient is None:
            return unclipped
        limit = self.config.value_clip_coefficient
        clipped = old_value + jnp.clip(value - old_value, -limit, limit)
        return jnp.maximum(unclipped, loss(clipped, target))


def _demon_targets(
    horde: heads.Horde, steps: DemonSteps, last_predictions: dict[str, Array]
) -> dict[str, Array]:
    """Return each demon's target; the last step bootstraps from the prediction after it."""
    next_predictions = jax.tree.map(
        lambda predicted, last, cut_off: jnp.where(
            steps.cut_off, cut_off, jnp.concatenate([predicted[1:], last[None]])
        ),
        steps.predictions,
        last_predictions,
        steps.predictions_cut_off,
    )
    return horde.targets(steps.transition, next_predictions)
