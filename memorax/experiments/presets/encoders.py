"""Encoders by name: they map an observation of a space to features."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree, Shaped

from memorax.environments import Box, Discrete, MultiDiscrete, Space
from memorax.environments.spaces import flatten, structure
from memorax.experiments.presets.names import VIT_HEADS
from memorax.networks import CNN, PatchEmbedding, ViT

PATCH_SIZE = 8
"""Height and width of a patch of the ViT, in pixels."""
VIT_LAYERS = 2
VIT_EXPANSION_FACTOR = 4

SMALLEST_PICTURE = 5
"""Height and width from which on rank 2 and 3 are pictures: convolutions gain nothing below."""
LARGEST_GRID = 20
"""Height and width up to which each cell counts, so that no convolution has a stride."""
SMALLEST_NATURE = 60
"""Height and width from which on nature's last convolution returns at least 4 x 4 positions."""
MOST_ONE_HOT = 1024
"""Categories up to which they are one-hot; more are embedded."""
MOST_SCALED = 2**16
"""Values up to which a picture's integers are scaled by their bounds; those of more are read as
they are, since their bounds are seldom reached."""

PICTURE_ENCODERS: dict[str, Callable[[int], nn.Module]] = {
    "minatar": lambda features: CNN(features, "minatar"),
    "nature": lambda features: CNN(features, "nature"),
    "impala": lambda features: CNN(features, "impala"),
    "vit": lambda features: ViT(
        features,
        num_layers=VIT_LAYERS,
        num_heads=VIT_HEADS,
        expansion_factor=VIT_EXPANSION_FACTOR,
        patch_embedding=PatchEmbedding(PATCH_SIZE, features),
    ),
}
"""Builders of the encoders of pictures by name, given the number of features."""


class PictureReader(nn.Module):
    """Read pictures: pixels scaled to [0, 1], categories one-hot.

    Attributes:
        space: The space of the pictures, of rank 2 (one channel) or 3 (channels last).
        encoder: The network's name in ``PICTURE_ENCODERS``.
        network: Maps ``(batch, time, height, width, channels)`` to ``(batch, time, features)``.
    """

    space: Box
    encoder: str
    network: nn.Module

    def __call__(
        self, observation: Shaped[Array, "batch time ..."]
    ) -> Float[Array, "batch time features"]:
        """Return the features of every picture."""
        return self.network(_picture(self.space, observation))


class CategoryReader(nn.Module):
    """Read many categories: the sum of a learned vector for each, divided by the root of how many.

    Attributes:
        space: The space of the categories.
        features: The width of a vector.
    """

    space: Discrete | MultiDiscrete
    features: int

    @nn.compact
    def __call__(
        self, observation: Int[Array, "batch time ..."]
    ) -> Float[Array, "batch time features"]:
        """Return the features of every step."""
        sizes = _sizes(self.space)
        first = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        indices = _indices(self.space, observation) + first
        vectors = nn.Embed(int(sizes.sum()), self.features)(indices)
        return vectors.sum(axis=2) / math.sqrt(len(sizes))


class ObservationEncoder(nn.Module):
    """Read an observation part by part, and join what comes out.

    Parts without a reader of their own are joined to one vector, categories one-hot, which passes
    through ``layers``.

    Attributes:
        spaces: The spaces of the observation's arrays, as ``jax.tree.leaves`` orders them.
        readers: The encoder of each; ``None``: it is part of the vector.
        layers: The layers over the vector.
    """

    spaces: tuple[Space, ...]
    readers: tuple[nn.Module | None, ...]
    layers: tuple[Callable[[Array], Array], ...]

    def __call__(
        self, observation: PyTree[Shaped[Array, "batch time ..."]]
    ) -> Float[Array, "batch time features"]:
        """Return the features of every step."""
        features, vectors = [], []
        arrays = jax.tree.leaves(observation)
        for space, reader, array in zip(self.spaces, self.readers, arrays, strict=True):
            if reader is None:
                vectors.append(_vector(space, array))
            else:
                features.append(reader(array))
        if vectors:
            vector = jnp.concatenate(vectors, axis=-1)
            for layer in self.layers:
                vector = layer(vector)
            features.append(vector)
        return jnp.concatenate(features, axis=-1)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The names of the encoders of the observation's parts, each once."""
        names = dict.fromkeys(map(_kind, self.readers))
        return tuple(names)


def make_encoder(encoder: str, space: PyTree, features: int) -> ObservationEncoder:
    """Return the encoder of the observations of a space.

    Args:
        encoder: One of ``ENCODERS``.
        space: The space of observations.
        features: How many features come out of each picture, and of all that is no picture.

    Raises:
        ValueError: If there is no picture for an encoder of pictures, or one that does not fit it,
            or a part of the observation has no element.
    """
    spaces = tuple(jax.tree.leaves(space))
    if not spaces or any(0 in getattr(part, "shape", ()) for part in spaces):
        raise ValueError(
            f"every part of an observation must have an element to read, got the observation "
            f"{describe(space)}"
        )
    names = [_choose(encoder, part) for part in spaces]
    if encoder in PICTURE_ENCODERS and encoder not in names:
        raise ValueError(
            f"encoder {encoder} reads pictures of at least {SMALLEST_PICTURE} x "
            f"{SMALLEST_PICTURE}, got the observation {describe(space)}: use auto or mlp"
        )
    readers = tuple(_reader(name, part, features) for name, part in zip(names, spaces, strict=True))
    layers = (nn.Dense(features), nn.relu) if None in readers else ()
    model = ObservationEncoder(spaces, readers, layers)
    try:
        _parameters(model, space)
    except ValueError as error:
        raise ValueError(
            f"encoder {encoder} does not fit the observation {describe(space)}: {error}"
        ) from error
    return model


def report(encoder: str, space: PyTree, features: int) -> str:
    """Return one line that says what reads an observation, and with how many parameters.

    Args:
        encoder: As for ``make_encoder``, as the others.
        space: The space of observations.
        features: The number of features.
    """
    model = make_encoder(encoder, space, features)
    leaves = jax.tree.leaves(_parameters(model, space))
    size = sum(math.prod(leaf.shape) for leaf in leaves)
    return f"observation {describe(space)} read by {' and '.join(model.kinds)}: {size:,} parameters"


def describe(space: PyTree) -> str:
    """Return a space of observations in a few words: its shapes, dtypes and categories."""
    match space:
        case dict():
            parts = (f"{name}: {describe(part)}" for name, part in sorted(space.items()))
            return f"{{{', '.join(parts)}}}"
        case tuple():
            return f"({', '.join(map(describe, space))})"
        case Discrete():
            return f"Discrete({space.n})"
    dtype = jnp.dtype(space.dtype).name
    return f"{space.shape} {dtype}" + (" categories" if isinstance(space, MultiDiscrete) else "")


def _parameters(model: ObservationEncoder, space: PyTree) -> PyTree:
    """Return the shapes of an encoder's parameters; nothing is computed."""
    observation = jax.tree.map(
        lambda array: jax.ShapeDtypeStruct((1, 1, *array.shape), array.dtype), structure(space)
    )
    return jax.eval_shape(model.init, jax.random.key(0), observation)


def _choose(encoder: str, space: Any) -> str:
    """Return the encoder of a part of an observation."""
    if not _is_picture(space):
        categories = isinstance(space, Discrete | MultiDiscrete)
        return "embedding" if categories and _sizes(space).sum() > MOST_ONE_HOT else "mlp"
    if encoder != "auto":
        return encoder
    sides = space.shape[:2]
    if max(sides) <= LARGEST_GRID:
        return "minatar"
    return "nature" if min(sides) >= SMALLEST_NATURE else "impala"


def _is_picture(space: Any) -> bool:
    shape = () if isinstance(space, Discrete) else space.shape
    return len(shape) in (2, 3) and min(shape[:2]) >= SMALLEST_PICTURE


def _reader(name: str, space: Any, features: int) -> nn.Module | None:
    match name:
        case "mlp":
            return None
        case "embedding":
            return CategoryReader(space, features)
    return PictureReader(space, name, PICTURE_ENCODERS[name](features))


def _kind(reader: nn.Module | None) -> str:
    if isinstance(reader, PictureReader):
        return "ViT" if reader.encoder == "vit" else f"{reader.encoder} CNN"
    return "MLP" if reader is None else "embedding"


def _sizes(space: Discrete | MultiDiscrete) -> np.ndarray:
    return np.array([space.n]) if isinstance(space, Discrete) else space.sizes.ravel()


def _vector(space: Space, observation: Array) -> Array:
    """Return an array of ``(batch, time, ...)`` as vectors."""
    if isinstance(space, MultiDiscrete):
        return _one_hot(_indices(space, observation), _sizes(space))
    if isinstance(space, Box) and len(space.shape) > 1:
        observation = _scaled(space, observation)
    return jax.vmap(jax.vmap(partial(flatten, space)))(observation)


def _picture(space: Box, observation: Array) -> Array:
    """Return pictures of ``(batch, time, ...)`` as floating ones with channels."""
    shape = space.shape if len(space.shape) == 3 else (*space.shape, 1)
    shape = (*observation.shape[:2], *shape)
    if isinstance(space, MultiDiscrete):
        sizes = space.sizes.reshape(shape[2:]).max(axis=(0, 1))
        return _one_hot(_indices(space, observation).reshape(shape), sizes)
    return _scaled(space, observation).reshape(shape)


def _indices(space: Discrete | MultiDiscrete, observation: Array) -> Int[Array, "batch time k"]:
    """Return categories counted from 0."""
    low = 0 if isinstance(space, Discrete) else np.asarray(space.low, np.int32)
    return (observation.astype(jnp.int32) - low).reshape(*observation.shape[:2], -1)


def _one_hot(indices: Array, sizes: np.ndarray) -> Array:
    """Return the categories along the last axis as one-hot vectors, joined along it."""
    most = int(sizes.max())
    columns = jax.nn.one_hot(indices, most).reshape(*indices.shape[:-1], -1)
    used = np.arange(most) < sizes[:, None]
    return columns if used.all() else columns[..., np.flatnonzero(used)]


def _scaled(space: Box, observation: Array) -> Array:
    """Return floating numbers: integers scaled from their bounds to [0, 1]."""
    if jnp.issubdtype(space.dtype, jnp.floating):
        return observation
    values = observation.astype(jnp.float32)
    low, high = (np.asarray(bound, np.float32) for bound in (space.low, space.high))
    if (high - low).max() >= MOST_SCALED:
        return values
    return (values - low) / np.maximum(high - low, 1)
