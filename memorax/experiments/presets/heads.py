"""Heads by name."""

from collections.abc import Callable

import flax.linen as nn
import numpy as np

from memorax.environments import Box, Discrete, Space
from memorax.networks import heads

Values = tuple[float, float]
HiddenDims = tuple[int, ...]


def _num_actions(head: str, space: Space) -> int:
    if not isinstance(space, Discrete):
        raise ValueError(f"head {head} needs discrete actions, got continuous ones: {space}")
    return space.n


def _action_dim(head: str, space: Space) -> int:
    return _vectors(head, space).shape[0]


def _bounds(head: str, space: Space) -> tuple[tuple[float, ...], tuple[float, ...]]:
    space = _vectors(head, space)
    low, high = (
        tuple(np.broadcast_to(np.asarray(bound, float), space.shape).tolist())
        for bound in (space.low, space.high)
    )
    return low, high


def _vectors(head: str, space: Space) -> Box:
    if not isinstance(space, Box) or len(space.shape) != 1:
        raise ValueError(f"head {head} needs actions that are vectors, got {space}")
    return space


POLICY_HEADS: dict[str, Callable[[Space, HiddenDims], nn.Module]] = {
    "categorical": lambda space, hidden_dims: heads.Categorical(
        _num_actions("categorical", space), hidden_dims=hidden_dims
    ),
    "gaussian": lambda space, hidden_dims: heads.Gaussian(
        _action_dim("gaussian", space), hidden_dims=hidden_dims
    ),
    "squashed_gaussian": lambda space, hidden_dims: heads.SquashedGaussian(
        _action_dim("squashed_gaussian", space),
        *_bounds("squashed_gaussian", space),
        hidden_dims=hidden_dims,
    ),
    "deterministic": lambda space, hidden_dims: heads.Deterministic(
        _action_dim("deterministic", space),
        *_bounds("deterministic", space),
        hidden_dims=hidden_dims,
    ),
}
"""Builders of policy heads by name, given the action space and the hidden layers."""

VALUE_HEADS: dict[str, Callable[[Space, Values, HiddenDims], nn.Module]] = {
    "v_network": lambda _, values, hidden_dims: heads.VNetwork(hidden_dims=hidden_dims),
    "hl_gauss_v_network": lambda _, values, hidden_dims: heads.HLGaussVNetwork(
        v_min=values[0], v_max=values[1], hidden_dims=hidden_dims
    ),
    "discrete_q_network": lambda space, values, hidden_dims: heads.DiscreteQNetwork(
        _num_actions("discrete_q_network", space), hidden_dims=hidden_dims
    ),
    "dueling_q_network": lambda space, values, hidden_dims: heads.DiscreteQNetwork(
        _num_actions("dueling_q_network", space), dueling=True, hidden_dims=hidden_dims
    ),
    "c51_q_network": lambda space, values, hidden_dims: heads.C51QNetwork(
        _num_actions("c51_q_network", space),
        v_min=values[0],
        v_max=values[1],
        hidden_dims=hidden_dims,
    ),
    "continuous_q_network": lambda _, values, hidden_dims: heads.ContinuousQNetwork(
        hidden_dims=hidden_dims
    ),
    "twin_continuous_q_network": lambda _, values, hidden_dims: heads.TwinContinuousQNetwork(
        hidden_dims=hidden_dims
    ),
}
"""Builders of value heads by name, given the action space, the least and the greatest value, which
only distributions over values need, and the hidden layers."""
