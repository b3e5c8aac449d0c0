"""Actor-critic that learns from every step as it happens, and keeps none."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, PyTree

from memorax.algorithms.acting import (
    Timestep,
    add_time,
    apply_step,
    episode_metrics,
    episodes_of,
    first_timestep,
    init_network,
)
from memorax.algorithms.algorithm import Algorithm, Metrics
from memorax.algorithms.checks import check_entropy, check_policy, check_state_values
from memorax.algorithms.configurations import hyperparameters
from memorax.algorithms.eligibility_traces import (
    decayed_trace,
    overshooting_bounded_step,
    sparse_kernels,
)
from memorax.algorithms.return_scale import ReturnScale
from memorax.algorithms.transitions import take_step, vectorize
from memorax.configurations.streaming import StreamingActorCriticConfig
from memorax.environments import Box, Environment, NormalizeObservation, adapt
from memorax.networks import Network, heads
from memorax.networks.sequence_models.sensitivities import (
    SENSITIVITIES,
    without_exact_gradient,
    zero_sensitivities,
)

hyperparameters(StreamingActorCriticConfig)


@struct.dataclass
class StreamingState:
    """The training state: everything that resuming needs. Networks are by name.

    Attributes:
        num_updates: Entries of the metrics so far.
        params: The networks' parameters.
        traces: Their eligibility traces.
        sensitivities: The derivatives of the memories' states by their parameters.
        return_scale: The size of returns so far.
        env_state: The environment's state.
        timestep: The networks' next input.
        carry: The networks' carries before they read it.

    Examples:
        >>> actor, critic = network(heads.Categorical(2)), network(heads.VNetwork())
        >>> config = StreamingActorCriticConfig(recurrent_gradient="truncated")
        >>> agent = StreamingActorCritic(config, env, env_params, actor, critic)
        >>> isinstance(jax.eval_shape(agent.init, key), StreamingState)
        True
    """

    num_updates: PyTree
    params: PyTree
    traces: PyTree
    sensitivities: PyTree
    return_scale: PyTree
    env_state: PyTree
    timestep: PyTree
    carry: PyTree


class StreamingActorCritic(Algorithm):
    """Actor-critic with eligibility traces, AC(lambda), on a stream of single steps.

    There is one environment, no buffer and no batch: each step updates both networks and is
    forgotten. With v the critic, pi the actor, w and u their parameters, r divided by the typical
    size of returns, and a step that does not overshoot (``overshooting_bounded_step``)::

        d   = r + gamma v(s') - v(s)
        z_w = gamma lambda z_w + grad v(s)              w = w + step_w d z_w
        z_u = gamma lambda z_u                          u = u + step_u d z_u
              + grad (log pi(a | s) + entropy_coefficient sign(d) entropy(pi(. | s)))

    Traces are zero at an episode's start. A time limit bootstraps from the value of the last
    observation; a termination from 0.

    With ``recurrent_gradient="exact"`` the derivatives of a memory's state by its parameters are
    carried beside the state (``memorax.networks.sequence_models.sensitivities``): grad v(s) is that
    of backpropagation through the whole episode, at the memory and the time of a single step. This
    is exact for the parameters of a memory's own layer while they are held still; they move by a
    small step at a time. Layers before a memory, other memories among them, have the gradient of
    the latest step. ``"truncated"`` has that for all parameters.

    Args:
        config: The hyperparameters.
        env: An ``Environment`` or a Gymnax environment, not vectorised.
        env_params: Its parameters.
        actor: A network whose head returns a distribution over actions.
        critic: A network whose head values states, such as ``heads.VNetwork``. Layer norms before
            the activations of both keep learning stable.

    Raises:
        ValueError: If the networks do not fit the environment, or a memory of theirs has no exact
            gradient. Nothing has been compiled by then.

    Source: Elsayed et al. 2024, arXiv 2410.14606, stream AC(lambda); Elelimy et al. 2024, arXiv
    2409.01449, for the recurrent gradient.

    Examples:
        >>> def network(head):
        ...     torso = RNN(RTUCell(RTUConfig(features=8, hidden_dim=8)))
        ...     return Network(FeatureExtractor(nn.Dense(8)), torso, head)
        >>> actor, critic = network(heads.Categorical(2)), network(heads.VNetwork())
        >>> config = StreamingActorCriticConfig(num_steps=4)
        >>> agent = StreamingActorCritic(config, env, env_params, actor, critic)
        >>> state, metrics = jax.eval_shape(lambda: agent.train(key, agent.init(key), 8))
    """

    def __init__(
        self,
        config: StreamingActorCriticConfig,
        env: Environment | Any,
        env_params: Any,
        actor: Network,
        critic: Network,
    ):
        env = adapt(env)
        if config.normalize_observations and _is_real(env.observation_space(env_params)):
            env = NormalizeObservation(env)
        super().__init__(config, env, env_params)
        self.networks = {"actor": actor, "critic": critic}
        self._exact = config.recurrent_gradient == "exact"
        self._envs = vectorize(self.env, config.num_envs)
        check_policy("StreamingActorCritic.actor", actor, self._envs, env_params)
        check_entropy("StreamingActorCritic.actor", actor)
        check_state_values("StreamingActorCritic.critic", critic, self._envs, env_params)
        for name, network in self.networks.items():
            named = ", ".join(without_exact_gradient(network.torso))
            if self._exact and named:
                raise ValueError(
                    f"StreamingActorCritic.{name}: {named} has no exact recurrent gradient, since "
                    "its units read each other's state: use a memory such as rtu, lru, s5, min_gru "
                    "or ffm, or recurrent_gradient='truncated', which learns from the latest step"
                )

    @property
    def notes(self) -> tuple[str, ...]:
        """What a run says of how it learns."""
        reach = "the whole episode" if self._exact else "the latest step only"
        return (f"recurrent gradient {self.config.recurrent_gradient}: through {reach}",)

    @property
    def batch_sequences(self) -> int:
        """Sequences that a step learns from: one."""
        return 1

    def _init(self, key: Array) -> StreamingState:
        """Return the state before the first step."""
        env_key, *network_keys = jax.random.split(key, 1 + len(self.networks))
        timestep, env_state = first_timestep(self._envs, self.env_params, env_key)
        params, carry, sensitivities = {}, {}, {}
        for (name, network), network_key in zip(self.networks.items(), network_keys, strict=True):
            draw_key, sparse_key = jax.random.split(network_key)
            params[name] = sparse_kernels(
                sparse_key, init_network(network, draw_key, timestep), self.config.sparsity
            )
            carry[name] = network.initialize_carry(1)
            sensitivities[name] = {}
            if self._exact:
                sensitivities[name] = zero_sensitivities(
                    network, params[name], *_inputs(timestep), carry[name]
                )
        return StreamingState(
            num_updates=jnp.int32(0),
            params=params,
            traces=optax.tree.zeros_like(params),
            sensitivities=sensitivities,
            return_scale=ReturnScale.init(1),
            env_state=env_state,
            timestep=timestep,
            carry=carry,
        )

    def _policy(self, state: StreamingState, deterministic: bool):
        """Return what acts: the network, its parameters and how it chooses."""

        def choose(key, output):
            distribution = heads.policy_output(output)
            return distribution.mode() if deterministic else distribution.sample(seed=key)

        return self.networks["actor"], state.params["actor"], choose

    def _update(self, state: StreamingState, key: Array) -> tuple[StreamingState, Metrics]:
        """Act and learn, step by step."""
        keys = jax.random.split(key, self.config.num_steps)
        state, (metrics, learned, episodes) = jax.lax.scan(self._step, state, keys)
        num_learned = jnp.maximum(learned.sum(), 1)
        metrics = {name: (values * learned).sum() / num_learned for name, values in metrics.items()}
        if self.config.normalize_rewards:
            metrics["return_scale"] = state.return_scale.size
        state = replace(state, num_updates=optax.safe_increment(state.num_updates))
        return state, metrics | episode_metrics(*episodes)

    def _step(self, state: StreamingState, key: Array):
        """Act once and learn from it."""
        config = self.config
        action_key, env_key = jax.random.split(key)
        output, to_actor, (actor_carry, actor_sensitivities) = self._read("actor", state)
        distribution = heads.policy_output(output)
        action = distribution.sample(seed=action_key)
        output, to_critic, (critic_carry, critic_sensitivities) = self._read("critic", state)
        value, to_value = jax.vjp(_value, output)

        carry = {"actor": actor_carry, "critic": critic_carry}
        next_state, transition, info = take_step(
            self._envs,
            self.env_params,
            env_key,
            state,
            carry,
            action[:, 0].astype(state.timestep.action.dtype),
        )
        learns, ended = ~transition.truncated[0], next_state.timestep.done[0]
        scale = state.return_scale.update(transition.reward[None], ended[None, None], config.gamma)
        reward = transition.reward[0]
        if config.normalize_rewards:
            reward = reward / scale.size
        _, output = apply_step(
            self.networks["critic"], state.params["critic"], next_state.timestep, critic_carry
        )
        next_value = jnp.where(transition.terminated[0], 0.0, _value(output))
        td_error = jnp.where(learns, reward + config.gamma * next_value - value, 0.0)

        def preference(distribution):
            entropy = distribution.entropy().sum()
            bonus = config.entropy_coefficient * jnp.sign(td_error) * entropy
            return distribution.log_prob(action).sum() + bonus, entropy

        to_distribution, entropy = jax.grad(preference, has_aux=True)(distribution)
        gradients = {
            "actor": to_actor(to_distribution),
            "critic": to_critic(*to_value(jnp.ones_like(value))),
        }
        params, traces, sizes = {}, {}, {}
        for name, kappa in (("actor", config.actor_kappa), ("critic", config.critic_kappa)):
            trace = decayed_trace(
                state.traces[name], gradients[name], config.gamma * config.trace_decay
            )
            params[name], sizes[name] = overshooting_bounded_step(
                state.params[name], trace, td_error, config.step_size, kappa
            )
            traces[name] = jax.tree.map(lambda leaf: jnp.where(ended, 0, leaf), trace)
        metrics = {
            "value_loss": 0.5 * td_error**2,
            "value": value,
            "entropy": entropy,
            "actor_step_size": sizes["actor"],
            "critic_step_size": sizes["critic"],
        }
        next_state = replace(
            next_state,
            params=params,
            traces=traces,
            sensitivities={"actor": actor_sensitivities, "critic": critic_sensitivities},
            return_scale=scale,
        )
        return next_state, (metrics, learns, episodes_of(info))

    def _read(self, name: str, state: StreamingState):
        """Apply a network to the next timestep.

        Returns:
            Its output, the function from the output's gradient to that of the parameters, and the
            carry and the sensitivities after the step.
        """

        def read(params):
            (carry, output), moved = self.networks[name].apply(
                {**params, SENSITIVITIES: state.sensitivities[name]},
                *_inputs(state.timestep),
                state.carry[name],
                mutable=[SENSITIVITIES] if self._exact else [],
            )
            return output, (carry, moved.get(SENSITIVITIES, {}))

        output, pull_back, after = jax.vjp(read, state.params[name], has_aux=True)
        return output, lambda gradient: pull_back(gradient)[0], after


def _inputs(timestep: Timestep) -> tuple[PyTree, ...]:
    """Return what networks read of a timestep, as a sequence of one step."""
    timestep = add_time(timestep)
    return timestep.observation, timestep.done, timestep.action, timestep.reward


def _value(output: Any) -> Array:
    """Return the value of the only row and step."""
    return heads.expected_value(heads.value_output(output))[0, 0]


def _is_real(space: PyTree) -> bool:
    """Return whether observations are one array of real numbers."""
    return isinstance(space, Box) and jnp.issubdtype(space.dtype, jnp.floating)
