"""Heads by name."""

from collections.abc import Callable

import flax.linen as nn
import numpy as np

from memorax.environments import Box, Discrete, Space
from memorax.networks import heads

Values = tuple[float, float]


def _num_actions(head: str, space: Space) -> int:
    if not isinstance(space, Discrete):
        raise ValueError(f"head {head} needs discrete actions, got continuous ones: {space}")
    return space.n


def _action_dim(head: str, space: Space) -> int:
    return _vectors(head, space).shape[0]


def _squashed_gaussian(space: Space) -> nn.Module:
    space = _vectors("squashed_gaussian", space)
    low, high = (
        tuple(np.broadcast_to(np.asarray(bound, float), space.shape).tolist())
        for bound in (space.low, space.high)
    )
    return heads.SquashedGaussian(action_dim=space.shape[0], low=low, high=high)


def _vectors(head: str, space: Space) -> Box:
    if not isinstance(space, Box) or len(space.shape) != 1:
        raise ValueError(f"head {head} needs actions that are vectors, got {space}")
    return space


POLICY_HEADS: dict[str, Callable[[Space], nn.Module]] = {
    "categorical": lambda space: heads.Categorical(_num_actions("categorical", space)),
    "gaussian": lambda space: heads.Gaussian(_action_dim("gaussian", space)),
    "squashed_gaussian": _squashed_gaussian,
}
"""What each name of a head that acts builds, given the space of actions."""

VALUE_HEADS: dict[str, Callable[[Space, Values], nn.Module]] = {
    "v_network": lambda _, values: heads.VNetwork(),
    "hl_gauss_v_network": lambda _, values: heads.HLGaussVNetwork(v_min=values[0], v_max=values[1]),
    "discrete_q_network": lambda space, values: heads.DiscreteQNetwork(
        _num_actions("discrete_q_network", space)
    ),
    "dueling_q_network": lambda space, values: heads.DiscreteQNetwork(
        _num_actions("dueling_q_network", space), dueling=True
    ),
    "c51_q_network": lambda space, values: heads.C51QNetwork(
        _num_actions("c51_q_network", space), v_min=values[0], v_max=values[1]
    ),
    "continuous_q_network": lambda _, values: heads.ContinuousQNetwork(),
    "twin_continuous_q_network": lambda _, values: heads.TwinContinuousQNetwork(),
}
"""What each name of a head that values builds, given the space of actions and the least and the
greatest value, which only distributions over values need."""
