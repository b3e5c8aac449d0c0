"""Algorithms that train memory networks.

The examples of the classes start from these lines.

Examples:
    >>> import flax.linen as nn
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import optax
    >>> from memorax import environments
    >>> from memorax.algorithms import *
    >>> from memorax.networks import RNN, FeatureExtractor, Network, RTUCell, RTUConfig, heads
    >>> env, env_params = environments.make("memory::StatelessCartPoleEasy")
    >>> def network(head):
    ...     return Network(FeatureExtractor(nn.Dense(8)), RNN(nn.GRUCell(8)), head)
    >>> key = jax.random.key(0)
"""

from memorax.algorithms.algorithm import Algorithm
from memorax.algorithms.configurations import hyperparameters
from memorax.algorithms.dqn import DQN, DQNConfig, R2D2Config
from memorax.algorithms.evaluation import EvaluationReport, EvaluationState
from memorax.algorithms.policy import Policy
from memorax.algorithms.ppo import PPO, PPOConfig
from memorax.algorithms.pqn import PQN, PQNConfig, PQNState
from memorax.algorithms.progress import ProgressBar
from memorax.algorithms.replay import ReplayAlgorithm, ReplayState
from memorax.algorithms.reporting import TrainingProgress
from memorax.algorithms.rollout import RolloutAlgorithm, RolloutState
from memorax.algorithms.sac import SAC, SACConfig
from memorax.algorithms.saving import load, save
from memorax.algorithms.streaming import (
    StreamingActorCritic,
    StreamingActorCriticConfig,
    StreamingState,
)
from memorax.algorithms.td3 import TD3, TD3Config

__all__ = [
    "DQN",
    "PPO",
    "PQN",
    "SAC",
    "TD3",
    "Algorithm",
    "DQNConfig",
    "EvaluationReport",
    "EvaluationState",
    "PPOConfig",
    "PQNConfig",
    "PQNState",
    "Policy",
    "ProgressBar",
    "R2D2Config",
    "ReplayAlgorithm",
    "ReplayState",
    "RolloutAlgorithm",
    "RolloutState",
    "SACConfig",
    "StreamingActorCritic",
    "StreamingActorCriticConfig",
    "StreamingState",
    "TD3Config",
    "TrainingProgress",
    "hyperparameters",
    "load",
    "save",
]
