"""What acting and training share: one timestep, and one way to show it to a network."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int, PyTree

from memorax.environments import Discrete, Vectorize
from memorax.environments.checks import check_action_space
from memorax.networks import Network, heads
from memorax.networks.heads.base import takes


@struct.dataclass
class Timestep:
    """What a network reads at a step. All lead with the environments, or with (batch, time).

    Like every state here, its fields are not checked when it is made: JAX rebuilds pytrees with
    shapes, axes or tracers in their leaves.

    Attributes:
        observation: What the environment shows, a pytree.
        done: bool; true where the observation is the first of a new episode.
        action: The action before the observation; at an episode's start it counts as zero.
        reward: float; the reward before the observation; at an episode's start it counts as zero.
    """

    observation: PyTree
    done: PyTree
    action: PyTree
    reward: PyTree


def first_timestep(env: Vectorize, params: Any, key: Array) -> tuple[Timestep, PyTree]:
    """Reset the environments; return the first timestep and the environments' state."""
    observation, env_state = env.reset(key, params)
    space = env.action_space(params)
    if isinstance(space, Discrete):
        action = jnp.zeros(env.num_envs, jnp.int32)
    else:
        action = jnp.zeros((env.num_envs, *space.shape), space.dtype)
    done, reward = jnp.ones(env.num_envs, bool), jnp.zeros(env.num_envs, jnp.float32)
    return Timestep(observation, done, action, reward), env_state


def init_network(network: Network, key: Array, timestep: Timestep) -> PyTree:
    """Return a network's initial parameters.

    Under ``jax.vmap`` the rows are initialised one after the other: the batched QR decompositions
    of many orthogonal initializers in one program can wait for each other forever on CPU (seen
    with jaxlib 0.10.2 on two cores).
    """
    leaves, structure = jax.tree.flatten(add_time(timestep))

    @jax.custom_batching.sequential_vmap
    def init(key, *leaves):
        timestep = jax.tree.unflatten(structure, leaves)
        variables = network.init(
            key, timestep.observation, timestep.done, timestep.action, timestep.reward
        )
        # What is sown meanwhile is no parameter.
        return {"params": variables.get("params", {})}

    return init(key, *leaves)


def apply_sequence(
    network: Network, params: PyTree, timesteps: Timestep, carry: PyTree
) -> tuple[PyTree, Any]:
    """Apply a network to timesteps that lead with (batch, time)."""
    return network.apply(
        params,
        timesteps.observation,
        done=timesteps.done,
        action=timesteps.action,
        reward=timesteps.reward,
        initial_carry=carry,
    )


def apply_and_add_losses(
    network: Network,
    params: PyTree,
    timesteps: Timestep,
    carry: PyTree,
    candidate_action: Array | None = None,
) -> tuple[Any, Array]:
    """Apply a network to timesteps that lead with (batch, time), to learn from them.

    Returns:
        The head's output, and the sum of all that the network's parts sow under ``losses``, such
        as a mixture of experts' load balance.
    """
    apply = partial(
        network.apply,
        params,
        timesteps.observation,
        done=timesteps.done,
        action=timesteps.action,
        reward=timesteps.reward,
        initial_carry=carry,
        mutable=["losses"],
    )
    (_, output), sown = (
        apply() if candidate_action is None else apply(candidate_action=candidate_action)
    )
    return output, jnp.asarray(sum(leaf.sum() for leaf in jax.tree.leaves(sown)), jnp.float32)


def read_sequences(
    network: Network,
    params: PyTree,
    timesteps: Timestep,
    carry: PyTree,
    burn_in_length: int,
    candidate_action: Array | None = None,
) -> tuple[Any, Array]:
    """Apply a network to sequences to learn from; the burn-in only brings its carry up to date.

    Args:
        network: The network.
        params: Its parameters.
        timesteps: ``(batch, time)``, the burn-in first.
        carry: The carry before the first step.
        burn_in_length: Steps of the burn-in, through which no gradient flows.
        candidate_action: After the burn-in, for heads that evaluate actions.

    Returns:
        The head's output after the burn-in, and the sum of what the network sows under ``losses``.
    """
    if burn_in_length:
        burn_in = jax.tree.map(lambda leaf: leaf[:, :burn_in_length], timesteps)
        carry, _ = apply_sequence(network, params, burn_in, carry)
        carry = jax.lax.stop_gradient(carry)
        timesteps = jax.tree.map(lambda leaf: leaf[:, burn_in_length:], timesteps)
    return apply_and_add_losses(network, params, timesteps, carry, candidate_action)


def apply_step(
    network: Network, params: PyTree, timestep: Timestep, carry: PyTree
) -> tuple[PyTree, Any]:
    """Apply a network to one timestep of each environment, as a sequence of time 1."""
    return apply_sequence(network, params, add_time(timestep), carry)


def episode_metrics(
    ended: Bool[Array, "time envs"],
    episode_return: Float[Array, "time envs"],
    episode_length: Int[Array, "time envs"],
    changed_return: Float[Array, "time envs"] | None = None,
) -> dict[str, Array]:
    """Return the mean return and length of the episodes that ended, NaN if none did, and how many.

    Args:
        ended: True where an episode ended.
        episode_return: The return of each episode up to and with the step.
        episode_length: The steps of each episode up to and with the step.
        changed_return: Of what wrappers made of the rewards; None: they are the task's own.
    """
    num_episodes = ended.sum()

    def mean(values):
        total = jnp.sum(jnp.where(ended, values, 0))
        return jnp.where(num_episodes > 0, total / jnp.maximum(num_episodes, 1), jnp.nan)

    changed = {} if changed_return is None else {"episode_changed_return": mean(changed_return)}
    return changed | {
        "episode_return": mean(episode_return),
        "episode_length": mean(episode_length),
        "num_episodes": num_episodes,
    }


def batch_first(tree: PyTree) -> PyTree:
    """Bring (time, batch, ...) to (batch, time, ...)."""
    return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), tree)


def add_time(tree: PyTree) -> PyTree:
    """Give every array a time axis of length 1 after the batch."""
    return jax.tree.map(lambda leaf: leaf[:, None], tree)


def check_policy(field: str, network: Network, env: Vectorize, params: Any) -> None:
    """Raise ``ValueError`` if a network's actions do not fit the environment, without compiling.

    Args:
        field: What the network is called in the message, such as ``"PPO.actor"``.
        network: A network whose head is to return a distribution over actions.
        env: The environments.
        params: Their parameters.
    """
    head = f"{field}.head"
    got = type(heads.policy_head(network.head)).__name__
    space = env.action_space(params)
    check_action_space(field, space)

    def check(key):
        timestep, _ = first_timestep(env, params, key)
        variables = init_network(network, key, timestep)
        carry = network.initialize_carry(env.num_envs)
        distribution = heads.policy_output(apply_step(network, variables, timestep, carry)[1])
        if not hasattr(distribution, "sample_and_log_prob"):
            raise ValueError(
                f"{head} must return a distribution over actions, got {got}, which returns "
                f"{type(distribution).__name__}"
            )
        action = distribution.sample(seed=key)
        if isinstance(space, Discrete):
            _check_discrete(head, got, distribution, action, space)
        else:
            _check_continuous(head, got, action, space)

    jax.eval_shape(check, jax.random.key(0))


def check_state_values(field: str, network: Network, env: Vectorize, params: Any) -> None:
    """Raise ``ValueError`` if a network does not say how good a state is, or cannot learn to.

    Args:
        field: What the network is called in the message, such as ``"PPO.critic"``.
        network: A network whose head, or a horde's main one, is to return a value a step.
        env: The environments.
        params: Their parameters.
    """
    value_head = heads.value_head(network.head)
    got = type(value_head).__name__
    if not hasattr(value_head, "loss"):
        raise ValueError(f"{field}.head must have a loss, such as VNetwork(), got {got}")
    if takes(value_head, "candidate_action"):
        raise ValueError(
            f"{field}.head must value states, such as VNetwork(), got {got}, which values actions"
        )

    def check(key):
        timestep, _ = first_timestep(env, params, key)
        variables = init_network(network, key, timestep)
        carry = network.initialize_carry(env.num_envs)
        output = heads.value_output(apply_step(network, variables, timestep, carry)[1])
        shape = getattr(heads.expected_value(output), "shape", type(output).__name__)
        if shape != (env.num_envs, 1):
            raise ValueError(
                f"{field}.head must return values of shape {(env.num_envs, 1)}, such as "
                f"VNetwork(), got {got}, which returns {shape}"
            )

    jax.eval_shape(check, jax.random.key(0))


def check_action_values(field: str, network: Network, env: Vectorize, params: Any) -> None:
    """Raise ``ValueError`` if a network's action values do not fit the environment.

    Args:
        field: What the network is called in the message, such as ``"DQN.network"``.
        network: A network whose head is to return action values.
        env: The environments.
        params: Their parameters.
    """
    head, got = f"{field}.head", type(network.head).__name__
    space = env.action_space(params)
    if not isinstance(space, Discrete):
        raise ValueError(
            f"{field} values discrete actions, got an action space of shape {space.shape}"
        )
    check_action_space(field, space)
    for method in ("bellman_target", "loss"):
        if not hasattr(network.head, method):
            raise ValueError(
                f"{head} must have a {method}, such as DiscreteQNetwork(action_dim={space.n}), "
                f"got {got}"
            )

    def check(key):
        timestep, _ = first_timestep(env, params, key)
        variables = init_network(network, key, timestep)
        carry = network.initialize_carry(env.num_envs)
        _, output = apply_step(network, variables, timestep, carry)
        values = heads.expected_value(output)
        shape = (env.num_envs, 1, space.n)
        if getattr(values, "shape", None) != shape:
            raise ValueError(
                f"{head} must return action values of shape {shape}, such as "
                f"DiscreteQNetwork(action_dim={space.n}), got {got}, which returns "
                f"{getattr(values, 'shape', type(output).__name__)}"
            )

    jax.eval_shape(check, jax.random.key(0))


def _check_discrete(head, got, distribution, action, space):
    if not jnp.issubdtype(action.dtype, jnp.integer):
        raise ValueError(
            f"{head} must be discrete, such as Categorical(action_dim={space.n}), for the action "
            f"space Discrete(n={space.n}), got {got}"
        )
    action_dim = getattr(distribution, "num_categories", space.n)
    if action_dim != space.n:
        raise ValueError(
            f"{head}.action_dim must be {space.n} for the action space Discrete(n={space.n}), "
            f"got {action_dim}"
        )


def _check_continuous(head, got, action, space):
    if jnp.issubdtype(action.dtype, jnp.integer):
        raise ValueError(
            f"{head} must be continuous, such as Gaussian, for an action space of shape "
            f"{space.shape}, got {got}"
        )
    if action.shape[2:] != space.shape:
        raise ValueError(
            f"{head}: actions must have the action space's shape {space.shape}, got "
            f"{action.shape[2:]}; set its action_dim"
        )
