"""Algorithms that train memory networks."""

from memorax.algorithms.algorithm import Algorithm
from memorax.algorithms.dqn import DQN, DQNConfig, R2D2Config
from memorax.algorithms.evaluation import EvaluationReport
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
    "PPOConfig",
    "PPOState",
    "PQNConfig",
    "PQNState",
    "R2D2Config",
    "ReplayAlgorithm",
    "ReplayState",
    "SACConfig",
]
