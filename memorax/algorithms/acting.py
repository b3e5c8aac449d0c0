"""Timesteps, and how networks are applied to them while acting and while training."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int, PyTree

from memorax.environments import Discrete, Vectorize
from memorax.networks import Network


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


def episodes_of(info: dict[str, Any]) -> tuple[Any, ...]:
    """Return what ``episode_metrics`` reads of a step."""
    changed_return = info.get("episode_changed_return")
    return info["episode_ended"], info["episode_return"], info["episode_length"], changed_return


def batch_first(tree: PyTree) -> PyTree:
    """Bring (time, batch, ...) to (batch, time, ...)."""
    return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), tree)


def add_time(tree: PyTree) -> PyTree:
    """Give every array a time axis of length 1 after the batch."""
    return jax.tree.map(lambda leaf: leaf[:, None], tree)
