"""Algorithms by name: the one place to register them, without importing JAX."""

from dataclasses import dataclass
from typing import Any

from memorax.configurations.dqn import DQNConfig, R2D2Config
from memorax.configurations.ppo import PPOConfig
from memorax.configurations.pqn import PQNConfig
from memorax.configurations.sac import SACConfig
from memorax.configurations.streaming import StreamingActorCriticConfig
from memorax.configurations.td3 import TD3Config


@dataclass(frozen=True)
class AlgorithmEntry:
    """The registry entry of an algorithm, all that training by name needs.

    The class is called with the configuration, the environment, its parameters, a network for each
    of the policy and the value head that the algorithm has, and the optimizer if it takes one.

    Attributes:
        config: Its configuration, which imports no JAX.
        implementation: Its class, as ``"module:Class"``; imported when an agent is made.
        kind: The source of its data, such as fresh rollouts.
        actions: The kinds of actions that it can choose, of ``"discrete"`` and ``"continuous"``.
        paper: Where it was published, as shortly as it can be found.
        policy_heads: The names of the heads that it can act with; by default the first that fits
            the actions. Empty if it acts by its values.
        value_heads: The names of the heads that it can value with, the default first.
        shares_memory: Whether an actor and a critic that share a memory can be passed as one
            network, with None in the critic's place.
        critic_hidden_dims: The hidden layers of its value head by default, if the paper has others
            than one as wide as the torso.
        has_optimizer: Whether it takes an Optax optimizer; else it has steps of its own.
        normalizes_layers: Whether its networks by name have layer norms around the torso, as in its
            paper.
    """

    config: type[Any]
    implementation: str
    kind: str
    actions: tuple[str, ...]
    paper: str
    policy_heads: tuple[str, ...] = ()
    value_heads: tuple[str, ...] = ()
    shares_memory: bool = False
    critic_hidden_dims: tuple[int, ...] | None = None
    has_optimizer: bool = True
    normalizes_layers: bool = False


Q_NETWORKS = "discrete_q_network", "dueling_q_network", "c51_q_network"

ALGORITHMS = {
    "ppo": AlgorithmEntry(
        config=PPOConfig,
        implementation="memorax.algorithms.ppo:PPO",
        kind="fresh rollouts",
        actions=("discrete", "continuous"),
        paper="arXiv 1707.06347",
        policy_heads=("categorical", "gaussian", "squashed_gaussian"),
        value_heads=("v_network", "hl_gauss_v_network"),
        shares_memory=True,
    ),
    "dqn": AlgorithmEntry(
        config=DQNConfig,
        implementation="memorax.algorithms.dqn:DQN",
        kind="replay",
        actions=("discrete",),
        paper="arXiv 1312.5602",
        value_heads=Q_NETWORKS,
    ),
    "r2d2": AlgorithmEntry(
        config=R2D2Config,
        implementation="memorax.algorithms.dqn:DQN",
        kind="prioritized replay",
        actions=("discrete",),
        paper="Kapturowski 2019",
        value_heads=Q_NETWORKS,
    ),
    "pqn": AlgorithmEntry(
        config=PQNConfig,
        implementation="memorax.algorithms.pqn:PQN",
        kind="fresh rollouts",
        actions=("discrete",),
        paper="arXiv 2407.04811",
        value_heads=Q_NETWORKS,
    ),
    "sac": AlgorithmEntry(
        config=SACConfig,
        implementation="memorax.algorithms.sac:SAC",
        kind="replay",
        actions=("continuous",),
        paper="arXiv 1812.05905",
        policy_heads=("squashed_gaussian",),
        value_heads=("twin_continuous_q_network", "continuous_q_network"),
        critic_hidden_dims=(256, 256),
    ),
    "td3": AlgorithmEntry(
        config=TD3Config,
        implementation="memorax.algorithms.td3:TD3",
        kind="replay",
        actions=("continuous",),
        paper="arXiv 1802.09477",
        policy_heads=("deterministic",),
        value_heads=("twin_continuous_q_network", "continuous_q_network"),
        critic_hidden_dims=(256, 256),
    ),
    "streaming_ac": AlgorithmEntry(
        config=StreamingActorCriticConfig,
        implementation="memorax.algorithms.streaming:StreamingActorCritic",
        kind="single steps",
        actions=("discrete", "continuous"),
        paper="arXiv 2410.14606",
        policy_heads=("categorical", "gaussian"),
        value_heads=("v_network",),
        has_optimizer=False,
        normalizes_layers=True,
    ),
}
"""Every algorithm by its name; the first is the default."""

DEFAULT_ALGORITHM = next(iter(ALGORITHMS))
"""The algorithm of a command that names none."""


def algorithm_name(config: Any) -> str:
    """Return the name of the algorithm that a configuration belongs to."""
    return next(name for name, entry in ALGORITHMS.items() if entry.config is type(config))


def algorithms_with_head(head: str) -> list[str]:
    """Return the names of the algorithms that can use a head."""
    return [
        name
        for name, entry in ALGORITHMS.items()
        if head in (*entry.policy_heads, *entry.value_heads)
    ]


def algorithms_for(actions: str) -> list[str]:
    """Return the names of the algorithms that can choose such actions."""
    return [name for name, entry in ALGORITHMS.items() if actions in entry.actions]
