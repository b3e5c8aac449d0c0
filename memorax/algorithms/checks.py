"""Checks that a network fits its environment, before anything is compiled."""

from typing import Any

import jax
import jax.numpy as jnp

from memorax.algorithms.acting import apply_step, first_timestep, init_network
from memorax.configurations.ppo import PPOConfig
from memorax.environments import Discrete, Vectorize
from memorax.environments.checks import check_action_space
from memorax.networks import Network, heads
from memorax.networks.heads.base import takes


def check_policy(field: str, network: Network, env: Vectorize, params: Any) -> None:
    """Raise ``ValueError`` if a network's actions do not fit the environment, without compiling.

    Args:
        field: The network's name in the message, such as ``"PPO.actor"``.
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
            returned = (
                f"an array of shape {distribution.shape}"
                if isinstance(distribution, jax.Array)
                else type(distribution).__name__
            )
            policy = "Gaussian"
            if isinstance(space, Discrete):
                policy = f"Categorical(action_dim={space.n})"
            raise ValueError(
                f"{head} must return a distribution over actions, such as {policy}, got {got}, "
                f"which returns {returned}"
            )
        action = distribution.sample(seed=key)
        if isinstance(space, Discrete):
            _check_discrete(head, got, distribution, action, space)
        else:
            _check_continuous(head, got, action, space)

    jax.eval_shape(check, jax.random.key(0))


def check_value_clipping(config: PPOConfig, head: Any) -> None:
    """Raise ``ValueError`` if values are to be clipped that a head gives as distributions."""
    clipped = config.value_clip_coefficient is not None
    if clipped and isinstance(head, heads.HLGaussVNetwork):
        raise ValueError(
            "PPOConfig.value_clip_coefficient must be None for HLGaussVNetwork, since a "
            f"distribution has no distance to clip, got {config.value_clip_coefficient}"
        )


def shares_a_torso(name: str, actor: Network, critic: Network | None) -> bool:
    """Return whether one network is both actor and critic, by its head; else there are two.

    Args:
        name: The algorithm's name, for the message.
        actor: The network that acts.
        critic: That which values states, or ``None``.

    Raises:
        ValueError: If the networks are neither one of an ``ActorCritic`` nor two without.
    """
    head = heads.main_head(actor.head)
    shared = isinstance(head, heads.ActorCritic)
    if shared != (critic is None):
        got = "None" if critic is None else type(critic).__name__
        raise ValueError(
            f"{name}.critic must be None if {name}.actor.head is an ActorCritic, else a network, "
            f"got {got} beside an actor whose head is {type(head).__name__}"
        )
    if critic is not None and isinstance(heads.main_head(critic.head), heads.ActorCritic):
        raise ValueError(
            f"{name}.critic.head must value states, such as VNetwork(), got ActorCritic"
        )
    return shared


def check_entropy(field: str, network: Network) -> None:
    """Raise ``ValueError`` if the entropy of a network's distributions is not known.

    Args:
        field: The network's name in the message, such as ``"PPO.actor"``.
        network: A network whose head returns a distribution over actions.
    """
    head = heads.policy_head(network.head)
    if isinstance(head, heads.SquashedGaussian | heads.Deterministic):
        raise ValueError(
            f"{field}.head must be a distribution whose entropy is known, such as Gaussian in "
            f"memorax.environments.ClipAction, got {type(head).__name__}"
        )


def check_state_values(field: str, network: Network, env: Vectorize, params: Any) -> None:
    """Raise ``ValueError`` if a network does not say how good a state is, or cannot learn to.

    Args:
        field: The network's name in the message, such as ``"PPO.critic"``.
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
        field: The network's name in the message, such as ``"DQN.network"``.
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


def check_key(method: str, key: Any, arguments: str) -> None:
    """Raise ``ValueError`` if a key is not one of ``jax.random``.

    Args:
        method: The method that takes it, such as ``"PPO.train"``.
        key: What was given for it.
        arguments: The arguments of the method in their order, for the message.
    """
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    # Those of jax.random.PRNGKey are plain arrays.
    raw = getattr(key, "dtype", None) == jnp.uint32 and getattr(key, "shape", ())[-1:] == (2,)
    if not (typed or raw):
        got = repr(key) if isinstance(key, int | float) else type(key).__name__
        raise ValueError(
            f"{method}: key must be a key, such as jax.random.key(0), got {got}; the arguments are "
            f"{arguments}"
        )
