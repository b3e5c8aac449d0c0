"""From a configuration to an agent."""

import dataclasses
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import optax
from jaxtyping import Array, PyTree

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
from memorax.environments import ClipAction, Discrete
from memorax.environments.checks import check_action_space
from memorax.experiments.presets.encoders import make_encoder
from memorax.experiments.presets.heads import POLICY_HEADS, VALUE_HEADS
from memorax.experiments.presets.torsos import TORSOS, make_torso
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.schedules import fit_schedules
from memorax.networks import FeatureExtractor, Network, heads
from memorax.validation import LARGEST

PREVIOUS_FEATURES = 16
"""Width of the embeddings of the previous action and of the reward."""

CRITIC_HIDDEN_DIMS = (256, 256)
"""Of SAC's critics, as in its paper."""


def make_agent(config: TrainConfig[Any], torso: str) -> Algorithm:
    """Return the agent of a run with one of its torsos.

    Raises:
        ValueError: If the environment is unknown, the parts do not fit each other, or a schedule is
            longer than the run.
    """
    fitted = fit_schedules(config)[0]
    if fitted is not config.algorithm:  # Hyperparameters that are tracers cannot be checked again.
        config = dataclasses.replace(config, algorithm=fitted)
    env, env_params = environments.make(config.environment, **config.parsed_environment_parameters)
    env = ClipAction(env)
    task = env, env_params
    space = env.action_space(env_params)
    encoder = make_encoder(config.encoder, env.observation_space(env_params), config.features)
    who = f"{config.algorithm_name} on {config.environment}"
    check_action_space(who, space, bounded=isinstance(config.algorithm, SACConfig))
    optimizer = _optimizer(config, torso)
    hidden_dims = _hidden_dims(config)

    def network(head: nn.Module) -> Network:
        return _network(config, torso, encoder, head, space)

    def policy_head(default: str) -> nn.Module:
        return POLICY_HEADS[config.policy_head or default](space, hidden_dims)

    def value_head(default: str, hidden_dims: tuple[int, ...] = hidden_dims) -> nn.Module:
        return VALUE_HEADS[config.value_head or default](space, config.value_range, hidden_dims)

    algorithm = config.algorithm
    match algorithm:
        case PPOConfig():
            actor = policy_head("categorical" if isinstance(space, Discrete) else "gaussian")
            critic = value_head("v_network")
            if config.shared_memory is not False:
                shared = network(heads.ActorCritic(actor, critic))
                return PPO(algorithm, *task, shared, None, optimizer)
            return PPO(algorithm, *task, network(actor), network(critic), optimizer)
        case DQNConfig():
            _check_discrete(config, space)
            return DQN(algorithm, *task, network(value_head("discrete_q_network")), optimizer)
        case PQNConfig():
            _check_discrete(config, space)
            return PQN(algorithm, *task, network(value_head("discrete_q_network")), optimizer)
        case SACConfig():
            _check_continuous(config, space)
            wide = CRITIC_HIDDEN_DIMS if config.head_features is None else hidden_dims * 2
            critic = value_head("twin_continuous_q_network", wide)
            actor = policy_head("squashed_gaussian")
            return SAC(algorithm, *task, network(actor), network(critic), optimizer)
    raise ValueError(f"algorithm must be one of {TrainConfig.__name__}'s, got {algorithm!r}")


def _network(
    config: TrainConfig[Any], torso: str, encoder: nn.Module, head: nn.Module, space: Any
) -> Network:
    """Return the wiring of all networks by name: a joint encoder, the torso, and the head."""
    inputs: dict[str, Any] = {"across_episodes": TORSOS[torso].across_episodes}
    if config.previous_inputs or TORSOS[torso].across_episodes:
        inputs |= {
            f"{name}_extractor": nn.Sequential((nn.Dense(PREVIOUS_FEATURES), nn.relu))
            for name in ("action", "reward")
        }
        inputs["action_dim"] = space.n if isinstance(space, Discrete) else None
    if config.show_episode_start or TORSOS[torso].across_episodes:
        inputs["done_extractor"] = _as_it_is
    return Network(
        feature_extractor=FeatureExtractor(
            observation_extractor=encoder,
            joint_extractor=nn.Sequential((nn.Dense(config.features), nn.relu)),
            **inputs,
        ),
        torso=make_torso(torso, config.features, config.num_layers, config.memory_horizon),
        head=head,
    )


def _as_it_is(values: Array) -> Array:
    return values


def _hidden_dims(config: TrainConfig[Any]) -> tuple[int, ...]:
    width = config.features if config.head_features is None else config.head_features
    return (width,) if width else ()


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


def _optimizer(config: TrainConfig[Any], torso: str) -> optax.GradientTransformation:
    learning_rate = config.learning_rate
    if config.anneal_learning_rate:
        # Over the steps that are made, of which there are none before learning starts.
        optimizer_steps = max(1, config.algorithm.optimizer_steps(num_updates(config)))
        if optimizer_steps > LARGEST:
            raise ValueError(
                f"anneal_learning_rate must be False for more than {LARGEST} steps of the "
                f"optimizer, got {optimizer_steps}"
            )
        learning_rate = optax.linear_schedule(config.learning_rate, 0.0, optimizer_steps)
    steps = [
        optax.clip_by_global_norm(config.max_gradient_norm),
        optax.adam(learning_rate, eps=1e-5),
    ]
    if config.recurrence_learning_rate_scale != 1:
        scale = optax.scale(config.recurrence_learning_rate_scale)
        names = TORSOS[torso].recurrence_parameters
        steps.append(optax.masked(scale, partial(_named, names=names)))
    return optax.chain(*steps)


def _named(params: PyTree, names: tuple[str, ...]) -> PyTree:
    """Return a tree of bools: which parameters have one of these names."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: getattr(path[-1], "key", None) in names, params
    )
