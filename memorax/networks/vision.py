"""Feature extractors for images: convolutions, or a transformer over patches."""

import functools
from typing import Any, Literal, get_args

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jaxtyping import Array, Float, Shaped

from memorax.networks.blocks.feed_forward import FFN
from memorax.networks.sequence_models.base import check_callable
from memorax.validation import check_between, check_positive, unknown_name

Pooling = Literal["class_token", "mean"]
Variant = Literal["nature", "impala", "minatar"]

NATURE_LAYERS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
"""Channels, kernel size and stride."""
IMPALA_CHANNELS = (16, 32, 32)
MINATAR_LAYERS = ((16, 3, 1),)
EXACT_GELU = functools.partial(nn.gelu, approximate=False)


class CNN(nn.Module):
    """Convolutions over each image, then a dense layer over all their outputs.

    uint8 images are scaled to [0, 1]; floating-point images are read unchanged.

    ``"nature"``: three convolutions without padding, with 32, 64 and 64 channels, each followed by
    relu. Pixels beyond the last full stride are left out, as in every such convolution.

    ``"impala"``: three stages of 16, 32 and 32 channels, each a convolution, a maximum over 3 x 3
    that halves height and width, and two residual blocks of two convolutions. Deeper, and any
    image is large enough for it.

    ``"minatar"``: one convolution of 16 channels over 3 x 3 without padding, followed by relu. For
    pictures of few pixels, such as grids, each of which counts.

    All end with a layer of ``features`` and relu.

    Attributes:
        features: Width of the outputs; 512 in the paper of ``"nature"``, 256 in that of
            ``"impala"``, 128 in that of ``"minatar"``.
        variant: ``"nature"``, ``"impala"`` or ``"minatar"``.
        dtype: Dtype of the computation; ``None``: that of images and parameters.
        param_dtype: Dtype of the parameters.

    Raises:
        ValueError: At construction, if a field is out of range; at the call, if the image is not
            one or too small.

    Source: Mnih et al. 2015, Human-level control through deep reinforcement learning, methods;
    Espeholt et al. 2018, IMPALA, arXiv 1802.01561, figure 3 (the deep network); Young and Tian
    2019, MinAtar, arXiv 1903.03176, section 3.

    Examples:
        >>> images = jnp.zeros((2, 5, 10, 10, 4))
        >>> cnn = CNN(features=16, variant="minatar")
        >>> jax.eval_shape(cnn.init_with_output, key, images)[0].shape
        (2, 5, 16)
    """

    features: int
    variant: Variant = "nature"
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        """Check the fields."""
        check_positive("CNN.features", self.features)
        if self.variant not in get_args(Variant):
            raise ValueError(unknown_name("CNN.variant", str(self.variant), get_args(Variant)))
        super().__post_init__()

    @nn.compact
    def __call__(
        self, image: Shaped[Array, "batch time height width channels"]
    ) -> Float[Array, "batch time features"]:
        """Return the features of every image.

        Args:
            image: uint8 or floating point.
        """
        if image.ndim != 5:
            raise ValueError(
                "CNN reads images of shape (batch, time, height, width, channels), "
                f"got {image.shape}"
            )
        values = _scaled(self, image)
        values = values.reshape(-1, *image.shape[2:])
        if self.variant == "impala":
            values = self._impala(values)
        else:
            layers = NATURE_LAYERS if self.variant == "nature" else MINATAR_LAYERS
            values = self._convolutions(values, layers)
        values = values.reshape(*image.shape[:2], -1)
        dense = nn.Dense(self.features, dtype=self.dtype, param_dtype=self.param_dtype)
        return nn.relu(dense(values))

    def _convolutions(self, values, layers):
        smallest = 1
        for _, size, stride in reversed(layers):
            smallest = (smallest - 1) * stride + size
        height, width = values.shape[1:3]
        if min(height, width) < smallest:
            raise ValueError(
                f"CNN: the strides of variant {self.variant!r} need an image of at least "
                f"{smallest} x {smallest}, got {height} x {width}"
            )
        for channels, size, stride in layers:
            values = nn.relu(self._convolve(values, channels, size, stride, "VALID"))
        return values

    def _impala(self, values):
        for channels in IMPALA_CHANNELS:
            values = self._convolve(values, channels)
            values = nn.max_pool(values, (3, 3), strides=(2, 2), padding="SAME")
            for _ in range(2):
                inner = self._convolve(nn.relu(values), channels)
                values += self._convolve(nn.relu(inner), channels)
        return nn.relu(values)

    def _convolve(self, values, channels, size=3, stride=1, padding="SAME"):
        convolution = nn.Conv(
            channels,
            (size, size),
            strides=stride,
            padding=padding,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )
        return convolution(values)


class PatchEmbedding(nn.Module):
    """Cut an image into square patches and map each linearly to a token.

    Inputs with five axes are images, whose patches become tokens row by row; inputs with four axes
    are sequences of tokens, each mapped to ``features``.

    uint8 images are scaled to [0, 1]; floating-point images are read unchanged.
    Tokens are of floating point: bytes with four axes are images whose channels are missing.

    Attributes:
        patch_size: The height and width of a patch, in pixels.
        features: The width of a token.
        dtype: Dtype of the computation; ``None``: that of inputs and parameters.
        param_dtype: Dtype of the parameters.

    Raises:
        ValueError: At construction, if a number is not positive; at the call, if the inputs are of
            another rank or dtype, or the image does not divide into patches.

    Source: Dosovitskiy et al. 2020, arXiv 2010.11929, section 3.1.

    Examples:
        >>> images = jnp.zeros((2, 5, 16, 16, 3), jnp.uint8)
        >>> embedding = PatchEmbedding(patch_size=8, features=16)
        >>> jax.eval_shape(embedding.init_with_output, key, images)[0].shape  # 4 patches
        (2, 5, 4, 16)
    """

    patch_size: int
    features: int
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        """Check the fields."""
        check_positive("PatchEmbedding.patch_size", self.patch_size)
        check_positive("PatchEmbedding.features", self.features)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, inputs: Shaped[Array, "batch time *image_or_tokens"]
    ) -> Float[Array, "batch time tokens features"]:
        """Return the tokens of every step.

        Args:
            inputs: ``(batch, time, height, width, channels)``, uint8 or floating point, or
                ``(batch, time, tokens, features)``, floating point.
        """
        if inputs.ndim not in (4, 5):
            raise ValueError(
                "PatchEmbedding reads images of shape (batch, time, height, width, channels) or "
                f"tokens of shape (batch, time, tokens, features), got {inputs.shape}"
            )
        if inputs.ndim == 4 and inputs.dtype == jnp.uint8:
            raise ValueError(
                "PatchEmbedding reads tokens of floating point; an image has a last axis of "
                f"channels, if only of 1: got uint8 of shape {inputs.shape}"
            )
        patches = self._cut(inputs) if inputs.ndim == 5 else inputs
        projection = nn.Dense(
            self.features, dtype=self.dtype, param_dtype=self.param_dtype, name="projection"
        )
        return projection(_scaled(self, patches))

    def _cut(self, image):
        batch, time, height, width, channels = image.shape
        size = self.patch_size
        if min(height, width) < size:
            raise ValueError(
                "PatchEmbedding.patch_size must not exceed the image, got "
                f"patch_size={size}, an image of {height} x {width}"
            )
        if height % size or width % size:
            raise ValueError(
                "PatchEmbedding.patch_size must divide the image's height and width, got "
                f"patch_size={size}, an image of {height} x {width}"
            )
        rows, columns = height // size, width // size
        patches = image.reshape(batch, time, rows, size, columns, size, channels).swapaxes(3, 4)
        return patches.reshape(batch, time, rows * columns, size * size * channels)


class ViT(nn.Module):
    """A vision transformer over each image by itself.

    With E the patch embedding, c a learnt class token and p a learnt position for each token::

        z = [c, E(image)] + p
        z = z + attention(norm(z)),  z = z + W_2 gelu(W_1 norm(z))      (num_layers times)
        y = norm(z)[0]

    Positions are learnt for as many tokens as the first image has; every later one must have as
    many. Norms are layer norms, all maps have biases, gelu is the exact one.

    Attributes:
        features: Width of a token and of the outputs.
        num_layers: Number of layers of attention and feed-forward.
        num_heads: Number of heads of each attention.
        expansion_factor: Width of a feed-forward layer's hidden layer relative to a token; 4 in the
            paper. The width is rounded.
        patch_embedding: Maps an image to tokens of ``features``: a ``PatchEmbedding``, or any
            module that returns ``(batch, time, tokens, features)``.
        pooling: The output: ``"class_token"``, as in the paper's models, or ``"mean"`` of all
            tokens, without a class token, which is its appendix D.3.
        dtype: Dtype of the computation; ``None``: that of tokens and parameters.
        param_dtype: Dtype of the parameters.

    Raises:
        ValueError: At construction, if a field is out of range or two do not fit; at the call, if
            the tokens do not fit.

    Source: Dosovitskiy et al. 2020, arXiv 2010.11929, equations 1 to 4.

    Examples:
        >>> images = jnp.zeros((2, 5, 16, 16, 3), jnp.uint8)
        >>> embedding = PatchEmbedding(patch_size=8, features=16)
        >>> vit = ViT(16, num_layers=2, num_heads=2, expansion_factor=4, patch_embedding=embedding)
        >>> jax.eval_shape(vit.init_with_output, key, images)[0].shape
        (2, 5, 16)
    """

    features: int
    num_layers: int
    num_heads: int
    expansion_factor: int | float
    patch_embedding: Any
    pooling: Pooling = "class_token"
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        """Check the fields."""
        for field in ("features", "num_layers", "num_heads"):
            check_positive(f"ViT.{field}", getattr(self, field))
        if self.features % self.num_heads:
            raise ValueError(
                "ViT.features must be divisible by num_heads, got "
                f"features={self.features}, num_heads={self.num_heads}"
            )
        check_between("ViT.expansion_factor", self.expansion_factor, 1 / self.features)
        if self.pooling not in get_args(Pooling):
            raise ValueError(unknown_name("ViT.pooling", str(self.pooling), get_args(Pooling)))
        check_callable("ViT.patch_embedding", self.patch_embedding)
        embedding = self.patch_embedding
        if isinstance(embedding, PatchEmbedding) and embedding.features != self.features:
            raise ValueError(
                "ViT.features must be those of its patch_embedding, got "
                f"features={self.features}, patch_embedding.features={embedding.features}"
            )
        super().__post_init__()

    @nn.compact
    def __call__(
        self, inputs: Shaped[Array, "batch time *image_or_tokens"]
    ) -> Float[Array, "batch time features"]:
        """Return the features of every image.

        Args:
            inputs: Inputs of the patch embedding, as ``(batch, time, height, width, channels)``.
        """
        tokens = self.patch_embedding(inputs)
        if tokens.ndim != 4 or tokens.shape[-1] != self.features:
            raise ValueError(
                "ViT.patch_embedding must return (batch, time, tokens, features) with features="
                f"{self.features}, got {tokens.shape}"
            )
        batch, time, *token_shape = tokens.shape
        tokens = self._with_positions(tokens.reshape(batch * time, *token_shape))
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        for layer in range(self.num_layers):
            normalised = nn.LayerNorm(**dtypes, name=f"attention_norm_{layer}")(tokens)
            tokens += nn.MultiHeadDotProductAttention(
                self.num_heads, **dtypes, name=f"attention_{layer}"
            )(normalised)
            normalised = nn.LayerNorm(**dtypes, name=f"feed_forward_norm_{layer}")(tokens)
            tokens += FFN(
                self.features,
                self.expansion_factor,
                EXACT_GELU,
                **dtypes,
                name=f"feed_forward_{layer}",
            )(normalised)
        tokens = nn.LayerNorm(**dtypes, name="norm")(tokens)
        pooled = tokens[:, 0] if self.pooling == "class_token" else tokens.mean(axis=1)
        return pooled.reshape(batch, time, self.features)

    def _with_positions(self, tokens):
        if self.pooling == "class_token":
            zeros = nn.initializers.zeros_init()
            class_token = self.param("class_token", zeros, (self.features,), self.param_dtype)
            tokens, class_token = promote_dtype(tokens, class_token, dtype=self.dtype)
            class_tokens = jnp.broadcast_to(class_token, (len(tokens), 1, self.features))
            tokens = jnp.concatenate([class_tokens, tokens], axis=1)
        shape = tokens.shape[1:]
        if self.has_variable("params", "position_embedding"):
            learnt = self.get_variable("params", "position_embedding").shape
            if learnt != shape:
                raise ValueError(
                    f"ViT has learnt {learnt[0]} positions of {learnt[1]} features, got "
                    f"{shape[0]} tokens of {shape[1]}: an image of another size"
                )
        positions = self.param(
            "position_embedding", nn.initializers.normal(0.02), shape, self.param_dtype
        )
        tokens, positions = promote_dtype(tokens, positions, dtype=self.dtype)
        return tokens + positions


def _scaled(module, pixels):
    """Return floating-point numbers: uint8 scaled to [0, 1], others unchanged."""
    name = type(module).__name__
    if 0 in pixels.shape:
        raise ValueError(f"{name} needs at least one of everything, got {pixels.shape}")
    if pixels.dtype == jnp.uint8:
        return pixels.astype(module.dtype or module.param_dtype) / 255
    if not jnp.issubdtype(pixels.dtype, jnp.floating):
        raise ValueError(f"{name} reads uint8 or floating-point numbers, got dtype {pixels.dtype}")
    return pixels
