"""From a configuration to an agent."""

from typing import Any

import flax.linen as nn
import numpy as np
import optax

from memorax import environments
from memorax.algorithms import (
    DQN,
    PPO,
    PQN,
    SAC,
    Algorithm,
    DQNConfig,
    PPOConfig,
    PQNConfig,
    SACConfig,
)
from memorax.environments import ClipAction, Discrete, FlattenObservation
from memorax.experiments.config import TrainConfig
from memorax.experiments.torsos import TORSOS
from memorax.networks import FeatureExtractor, Network, heads

PREVIOUS_FEATURES = 16
"""Width of what is made of the previous action, reward and end of an episode, each."""


def make_agent(config: TrainConfig[Any], torso: str) -> Algorithm:
    """Return the agent of a run with one of its torsos.

    Raises:
        ValueError: If the environment is unknown or the parts do not fit each other.
    """
    env, env_params = environments.make(config.environment, **config.parsed_environment_parameters)
    env = ClipAction(FlattenObservation(env))
    task = env, env_params
    space = env.action_space(env_params)
    optimizer = _optimizer(config)

    def network(head: nn.Module) -> Network:
        return _network(config, torso, head, space)

    algorithm = config.algorithm
    match algorithm:
        case PPOConfig():
            actor, critic = network(_policy(config, space)), network(heads.VNetwork())
            return PPO(algorithm, *task, actor, critic, optimizer)
        case DQNConfig():
            return DQN(algorithm, *task, network(_action_values(config, space)), optimizer)
        case PQNConfig():
            return PQN(algorithm, *task, network(_action_values(config, space)), optimizer)
        case SACConfig():
            actor, critic = _bounded_policy(config, space), heads.TwinContinuousQNetwork()
            return SAC(algorithm, *task, network(actor), network(critic), optimizer)
    raise ValueError(f"algorithm must be one of {TrainConfig.__name__}'s, got {algorithm!r}")


def _network(config: TrainConfig[Any], torso: str, head: nn.Module, space: Any) -> Network:
    previous: dict[str, Any] = {}
    if config.previous_inputs:
        previous = {
            f"{name}_extractor": nn.Sequential((nn.Dense(PREVIOUS_FEATURES), nn.relu))
            for name in ("action", "reward", "done")
        }
        previous["action_dim"] = space.n if isinstance(space, Discrete) else None
    return Network(
        feature_extractor=FeatureExtractor(
            observation_extractor=nn.Sequential((nn.Dense(config.features), nn.relu)), **previous
        ),
        torso=TORSOS[torso](config.features),
        head=head,
    )


def _policy(config: TrainConfig[Any], space: Any) -> nn.Module:
    if isinstance(space, Discrete):
        return heads.Categorical(action_dim=space.n)
    _check_vector(config, space)
    return heads.Gaussian(action_dim=space.shape[0])


def _action_values(config: TrainConfig[Any], space: Any) -> nn.Module:
    if not isinstance(space, Discrete):
        raise ValueError(
            f"{config.algorithm_name} values discrete actions, and those of {config.environment} "
            "are continuous: use ppo or sac"
        )
    return heads.DiscreteQNetwork(action_dim=space.n)


def _bounded_policy(config: TrainConfig[Any], space: Any) -> nn.Module:
    if isinstance(space, Discrete):
        raise ValueError(
            f"sac acts continuously, and the actions of {config.environment} are discrete: use "
            "ppo, dqn, r2d2 or pqn"
        )
    _check_vector(config, space)
    low, high = (
        tuple(np.broadcast_to(np.asarray(bound, float), space.shape).tolist())
        for bound in (space.low, space.high)
    )
    return heads.SquashedGaussian(action_dim=space.shape[0], low=low, high=high)


def _check_vector(config: TrainConfig[Any], space: Any) -> None:
    if len(space.shape) != 1:
        raise ValueError(
            f"{config.environment}: continuous actions must be vectors, got shape {space.shape}"
        )


def num_updates(config: TrainConfig[Any]) -> int:
    """Return how many updates make up at least ``total_steps``."""
    return -(-config.total_steps // (config.algorithm.num_envs * config.algorithm.num_steps))


def _optimizer(config: TrainConfig[Any]) -> optax.GradientTransformation:
    learning_rate = config.learning_rate
    if config.anneal_learning_rate:
        learning_rate = optax.linear_schedule(
            config.learning_rate, 0.0, num_updates(config) * config.algorithm.optimizer_steps
        )
    return optax.chain(
        optax.clip_by_global_norm(config.max_gradient_norm),
        optax.adam(learning_rate, eps=1e-5),
    )
