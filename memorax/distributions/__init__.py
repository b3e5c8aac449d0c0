"""Distributions: pytrees with the interface of distrax, and the same draws from a key."""

from memorax.distributions.categorical import Categorical, EpsilonGreedy
from memorax.distributions.deterministic import Deterministic
from memorax.distributions.distribution import Distribution
from memorax.distributions.independent import Independent
from memorax.distributions.normal import Normal
from memorax.distributions.squashed_normal import SquashedNormal

__all__ = [
    "Categorical",
    "Deterministic",
    "Distribution",
    "EpsilonGreedy",
    "Independent",
    "Normal",
    "SquashedNormal",
]
