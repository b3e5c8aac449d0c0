"""From a configuration to an agent."""

from typing import Any

import flax.linen as nn
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
from memorax.experiments.heads import POLICY_HEADS, VALUE_HEADS
from memorax.experiments.torsos import TORSOS
from memorax.networks import FeatureExtractor, Network

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

    def value_head(default: str) -> nn.Module:
        return VALUE_HEADS[config.value_head or default](space, config.value_range)

    algorithm = config.algorithm
    match algorithm:
        case PPOConfig():
            default = "categorical" if isinstance(space, Discrete) else "gaussian"
            actor = POLICY_HEADS[config.policy_head or default](space)
            critic = value_head("v_network")
            return PPO(algorithm, *task, network(actor), network(critic), optimizer)
        case DQNConfig():
            _check_discrete(config, space)
            return DQN(algorithm, *task, network(value_head("discrete_q_network")), optimizer)
        case PQNConfig():
            _check_discrete(config, space)
            return PQN(algorithm, *task, network(value_head("discrete_q_network")), optimizer)
        case SACConfig():
            _check_continuous(config, space)
            actor = POLICY_HEADS[config.policy_head or "squashed_gaussian"](space)
            critic = value_head("twin_continuous_q_network")
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


def _check_discrete(config: TrainConfig[Any], space: Any) -> None:
    if not isinstance(space, Discrete):
        raise ValueError(
            f"{config.algorithm_name} values discrete actions, and those of {config.environment} "
            "are continuous: use ppo or sac"
        )
    if config.policy_head is not None:
        raise ValueError(
            f"{config.algorithm_name} acts by its values and has no policy_head, got "
            f"{config.policy_head!r}"
        )


def _check_continuous(config: TrainConfig[Any], space: Any) -> None:
    if isinstance(space, Discrete):
        raise ValueError(
            f"sac acts continuously, and the actions of {config.environment} are discrete: use "
            "ppo, dqn, r2d2 or pqn"
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
