"""What a network says: how to act, and how good a state is."""

from memorax.networks.heads.policy import Categorical, Gaussian
from memorax.networks.heads.value import VNetwork

__all__ = ["Categorical", "Gaussian", "VNetwork"]
