"""Algorithms that train memory networks."""

from memorax.algorithms.evaluation import EvaluationReport
from memorax.algorithms.ppo import PPO, PPOConfig, PPOState

__all__ = ["PPO", "EvaluationReport", "PPOConfig", "PPOState"]
