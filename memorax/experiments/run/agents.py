"""From a configuration to an agent."""

import dataclasses
import importlib
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import optax
from jaxtyping import Array, PyTree

from memorax import environments
from memorax.algorithms import Algorithm
from memorax.catalog.algorithms import ALGORITHMS, AlgorithmEntry, algorithms_for
from memorax.environments import ClipAction, Discrete
from memorax.environments.checks import check_action_space
from memorax.experiments.presets.encoders import make_encoder
from memorax.experiments.presets.heads import POLICY_HEADS, VALUE_HEADS
from memorax.experiments.presets.torsos import TORSOS, make_torso
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.schedules import fit_schedules
from memorax.networks import FeatureExtractor, Network, Stack, heads
from memorax.validation import LARGEST

PREVIOUS_FEATURES = 16
"""Width of the embeddings of the previous action and of the reward."""

DISCRETE_HEAD = "categorical"
"""The policy head for discrete actions; all others are for continuous ones."""
BOUNDED_HEADS = "squashed_gaussian", "deterministic"
"""The policy heads whose actions have finite bounds."""


def make_agent(config: TrainConfig[Any], torso: str) -> Algorithm:
    """Return the agent of a run with one of its torsos.

    Raises:
        ValueError: If the environment is unknown, the parts do not fit each other, or a schedule is
            longer than the run.
    """
    fitted = fit_schedules(config)[0]
    if fitted is not config.algorithm:  # Hyperparameters that are tracers cannot be checked again.
        config = dataclasses.replace(config, algorithm=fitted)
    entry = ALGORITHMS[config.algorithm_name]
    env, env_params = environments.make(config.environment, **config.parsed_environment_parameters)
    env = ClipAction(env)
    space = env.action_space(env_params)
    encoder = make_encoder(config.encoder, env.observation_space(env_params), config.features)
    who = f"{config.algorithm_name} on {config.environment}"
    bounded = entry.policy_heads != () and set(entry.policy_heads) <= set(BOUNDED_HEADS)
    check_action_space(who, space, bounded=bounded)
    _check_actions(config, entry, space)
    network = partial(_network, config, entry, torso, encoder, space)
    parts = _heads(config, entry, space)
    networks: list[Network | None] = [network(head) for head in parts]
    if entry.shares_memory and config.shared_memory is not False:
        networks = [network(heads.ActorCritic(*parts)), None]
    module, name = entry.implementation.split(":")
    algorithm = getattr(importlib.import_module(module), name)
    optimizer = (_optimizer(config, torso),) if entry.has_optimizer else ()
    return algorithm(config.algorithm, env, env_params, *networks, *optimizer)


def _heads(config: TrainConfig[Any], entry: AlgorithmEntry, space: Any) -> list[nn.Module]:
    """Return the heads of the algorithm's networks, that which acts first."""
    width = _head_width(config)
    # With layer norms, the hidden layers of heads stand behind the torso.
    hidden_dims = (width,) if width and not entry.normalizes_layers else ()
    made = []
    if entry.policy_heads:
        discrete = isinstance(space, Discrete)
        fitting = [head for head in entry.policy_heads if (head == DISCRETE_HEAD) == discrete]
        made.append(POLICY_HEADS[config.policy_head or fitting[0]](space, hidden_dims))
    if entry.value_heads:
        if entry.critic_hidden_dims is not None:
            own = config.head_features is None
            hidden_dims = entry.critic_hidden_dims if own else hidden_dims * 2
        name = config.value_head or entry.value_heads[0]
        made.append(VALUE_HEADS[name](space, config.value_range, hidden_dims))
    return made


def _head_width(config: TrainConfig[Any]) -> int:
    return config.features if config.head_features is None else config.head_features


def _network(
    config: TrainConfig[Any],
    entry: AlgorithmEntry,
    torso: str,
    encoder: nn.Module,
    space: Any,
    head: nn.Module,
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
    memory = make_torso(torso, config.features, config.num_layers, config.memory_horizon)
    activation = _normalized_leaky_relu if entry.normalizes_layers else nn.relu
    if entry.normalizes_layers and (width := _head_width(config)):
        memory = Stack((memory, nn.Dense(width), activation))
    return Network(
        feature_extractor=FeatureExtractor(
            observation_extractor=encoder,
            joint_extractor=nn.Sequential((nn.Dense(config.features), activation)),
            **inputs,
        ),
        torso=memory,
        head=head,
        # The twin has no carry to cut its time by.
        gradient_checkpointing=config.gradient_checkpointing and torso != "mlp",
    )


def _normalized_leaky_relu(values: Array) -> Array:
    """Bring each step's features to mean 0 and variance 1, then apply a leaky ReLU."""
    return nn.leaky_relu(jax.nn.standardize(values, epsilon=1e-5))


def _as_it_is(values: Array) -> Array:
    return values


def _check_actions(config: TrainConfig[Any], entry: AlgorithmEntry, space: Any) -> None:
    actions = "discrete" if isinstance(space, Discrete) else "continuous"
    if actions not in entry.actions:
        raise ValueError(
            f"{config.algorithm_name} chooses {' or '.join(entry.actions)} actions, and those of "
            f"{config.environment} are {actions}: use {', '.join(algorithms_for(actions))}"
        )


def num_updates(config: TrainConfig[Any]) -> int:
    """Return how many updates make up at least ``total_steps``."""
    return -(-config.total_steps // (config.algorithm.num_envs * config.algorithm.num_steps))


def _optimizer(config: TrainConfig[Any], torso: str) -> optax.GradientTransformation:
    learning_rate = config.learning_rate
    if config.anneal_learning_rate:
        # Over the optimizer's steps, of which there are none before learning starts.
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
