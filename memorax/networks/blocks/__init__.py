"""Blocks: sequence models around others, and the modules between them."""

from memorax.networks.blocks.feed_forward import FFN, GLU, Projection
from memorax.networks.blocks.mixture_of_experts import MoE, TopKRouter
from memorax.networks.blocks.normalization import PostNorm, PreNorm
from memorax.networks.blocks.residual import GatedResidual, Residual
from memorax.networks.blocks.rwkv7 import RWKV7Layers
from memorax.networks.blocks.segment_recurrence import SegmentRecurrence
from memorax.networks.blocks.stack import Stack

__all__ = [
    "FFN",
    "GLU",
    "GatedResidual",
    "MoE",
    "PostNorm",
    "PreNorm",
    "Projection",
    "RWKV7Layers",
    "Residual",
    "SegmentRecurrence",
    "Stack",
    "TopKRouter",
]
