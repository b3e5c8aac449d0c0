"""Memory networks: feature extractors, torsos and heads that snap together."""

from memorax.networks import heads
from memorax.networks.feature_extractor import FeatureExtractor
from memorax.networks.network import Network
from memorax.networks.sequence_models import RNN, SequenceModel, SequenceModelWrapper

__all__ = [
    "RNN",
    "FeatureExtractor",
    "Network",
    "SequenceModel",
    "SequenceModelWrapper",
    "heads",
]
