"""Heads: policies, action values, values and other predictions."""

from memorax.distributions import SquashedNormal
from memorax.networks.heads.action_value import (
    C51QNetwork,
    ContinuousQNetwork,
    DiscreteQNetwork,
    TwinContinuousQNetwork,
)
from memorax.networks.heads.actor_critic import (
    ActorCritic,
    ActorCriticOutput,
    policy_head,
    policy_output,
    value_head,
    value_output,
)
from memorax.networks.heads.policy import (
    Categorical,
    Deterministic,
    Gaussian,
    SquashedGaussian,
    Temperature,
)
from memorax.networks.heads.prediction import (
    GVF,
    DemonTransition,
    Horde,
    HordeOutput,
    main_head,
    main_output,
    predictions,
)
from memorax.networks.heads.value import HLGaussVNetwork, VNetwork
from memorax.networks.heads.value_distribution import (
    ValueDistribution,
    expected_value,
    select_action,
)
from memorax.networks.heads.value_scale import IDENTITY, SIGNED_HYPERBOLIC, ValueScale

__all__ = [
    "GVF",
    "IDENTITY",
    "SIGNED_HYPERBOLIC",
    "ActorCritic",
    "ActorCriticOutput",
    "C51QNetwork",
    "Categorical",
    "ContinuousQNetwork",
    "DemonTransition",
    "Deterministic",
    "DiscreteQNetwork",
    "Gaussian",
    "HLGaussVNetwork",
    "Horde",
    "HordeOutput",
    "SquashedGaussian",
    "SquashedNormal",
    "Temperature",
    "TwinContinuousQNetwork",
    "VNetwork",
    "ValueDistribution",
    "ValueScale",
    "expected_value",
    "main_head",
    "main_output",
    "policy_head",
    "policy_output",
    "predictions",
    "select_action",
    "value_head",
    "value_output",
]
