"""Algorithms that train memory networks."""

from memorax.algorithms.algorithm import Algorithm
from memorax.algorithms.configurations import hyperparameters
from memorax.algorithms.dqn import DQN, DQNConfig, R2D2Config
from memorax.algorithms.evaluation import EvaluationReport, EvaluationState
from memorax.algorithms.ppo import PPO, PPOConfig, PPOState
from memorax.algorithms.pqn import PQN, PQNConfig, PQNState
from memorax.algorithms.replay_algorithm import ReplayAlgorithm, ReplayState
from memorax.algorithms.sac import SAC, SACConfig

__all__ = [
    "DQN",
    "PPO",
    "PQN",
    "SAC",
    "Algorithm",
    "DQNConfig",
    "EvaluationReport",
    "EvaluationState",
    "PPOConfig",
    "PPOState",
    "PQNConfig",
    "PQNState",
    "R2D2Config",
    "ReplayAlgorithm",
    "ReplayState",
    "SACConfig",
    "hyperparameters",
]
