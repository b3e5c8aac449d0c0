"""From a configuration to an agent."""

import flax.linen as nn
import optax

from memorax import environments
from memorax.algorithms import PPO
from memorax.environments import ClipAction, Discrete, FlattenObservation
from memorax.experiments.config import TrainConfig
from memorax.experiments.torsos import TORSOS
from memorax.networks import FeatureExtractor, Network, heads


def make_agent(config: TrainConfig, torso: str) -> PPO:
    """Return the agent of a run with one of its torsos.

    Raises:
        ValueError: If the environment is unknown or the parts do not fit each other.
    """
    env, env_params = environments.make(config.environment, **config.parsed_environment_parameters)
    env = ClipAction(FlattenObservation(env))
    space = env.action_space(env_params)
    if isinstance(space, Discrete):
        policy = heads.Categorical(action_dim=space.n)
    elif len(space.shape) == 1:
        policy = heads.Gaussian(action_dim=space.shape[0])
    else:
        raise ValueError(
            f"{config.environment}: continuous actions must be vectors, got shape {space.shape}"
        )

    def network(head: nn.Module) -> Network:
        return Network(
            feature_extractor=FeatureExtractor(
                observation_extractor=nn.Sequential((nn.Dense(config.features), nn.relu))
            ),
            torso=TORSOS[torso](config.features),
            head=head,
        )

    return PPO(
        config.algorithm,
        env,
        env_params,
        actor=network(policy),
        critic=network(heads.VNetwork()),
        optimizer=_optimizer(config),
    )


def num_updates(config: TrainConfig) -> int:
    """Return how many updates make up at least ``total_steps``."""
    return -(-config.total_steps // (config.algorithm.num_envs * config.algorithm.num_steps))


def _optimizer(config: TrainConfig) -> optax.GradientTransformation:
    learning_rate = config.learning_rate
    if config.anneal_learning_rate:
        algorithm = config.algorithm
        learning_rate = optax.linear_schedule(
            config.learning_rate,
            0.0,
            num_updates(config) * algorithm.update_epochs * algorithm.num_minibatches,
        )
    return optax.chain(
        optax.clip_by_global_norm(config.max_gradient_norm),
        optax.adam(learning_rate, eps=1e-5),
    )
