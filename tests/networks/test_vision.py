import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from memorax.networks import CNN, FeatureExtractor, PatchEmbedding, ViT
from tests.networks.samples import draw_params

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 3, 36, 37, 2), dtype=np.uint8)
IMAGE = jnp.asarray(PIXELS)
SMALL = IMAGE[:, :, :6, :4]


def vit(features=4, patch_size=2, num_heads=2, **fields):
    fields = {"num_layers": 2, "expansion_factor": 2, **fields}
    dtypes = {name: fields[name] for name in ("dtype", "param_dtype") if name in fields}
    return ViT(
        features=features,
        num_heads=num_heads,
        patch_embedding=PatchEmbedding(patch_size=patch_size, features=features, **dtypes),
        **fields,
    )


EXTRACTORS = {
    "vit": (vit(), SMALL),
    "vit_mean": (vit(pooling="mean"), SMALL),
    "nature": (CNN(features=5), IMAGE),
    "impala": (CNN(features=5, variant="impala"), SMALL),
    "minatar": (CNN(features=5, variant="minatar"), SMALL),
}
each_extractor = pytest.mark.parametrize(
    ("model", "image"), EXTRACTORS.values(), ids=EXTRACTORS.keys()
)


def numpy_params(model, image):
    params = draw_params(model, image)
    return params, jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["params"])


def close(actual, expected):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * scale)


def relu(values):
    return np.maximum(values, 0)


def convolved(values, kernel, bias, stride, low):
    """Convolve an image of (height, width, channels), in loops; ``low`` zeros stand before it."""
    size = kernel.shape[0]
    high = 0 if low == 0 else size - 1 - low
    values = np.pad(values, ((low, high), (low, high), (0, 0)))
    rows = (values.shape[0] - size) // stride + 1
    columns = (values.shape[1] - size) // stride + 1
    out = np.empty((rows, columns, kernel.shape[-1]))
    for row in range(rows):
        for column in range(columns):
            top, left = row * stride, column * stride
            window = values[top : top + size, left : left + size]
            out[row, column] = np.tensordot(window, kernel, axes=3) + bias
    return out


def pooled(values):
    """Take the largest of each 3 x 3, every second pixel, with what is beyond the edge ignored."""
    height, width, channels = values.shape
    out = np.empty((-(-height // 2), -(-width // 2), channels))
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            # An even length lacks one pixel, which is the last.
            top = 2 * row - height % 2
            left = 2 * column - width % 2
            window = values[max(top, 0) : top + 3, max(left, 0) : left + 3]
            out[row, column] = window.max((0, 1))
    return out


def test_nature_is_its_equations():
    model = CNN(features=5)
    params, p = numpy_params(model, IMAGE)
    values = PIXELS[1, 2] / 255
    for index, stride in enumerate((4, 2, 1)):
        layer = p[f"Conv_{index}"]
        values = relu(convolved(values, layer["kernel"], layer["bias"], stride, low=0))
    expected = relu(values.reshape(-1) @ p["Dense_0"]["kernel"] + p["Dense_0"]["bias"])
    assert [p[f"Conv_{index}"]["kernel"].shape[::3] for index in range(3)] == [
        (8, 32),
        (4, 64),
        (3, 64),
    ]
    close(jax.jit(model.apply)(params, IMAGE)[1, 2], expected)


def test_impala_is_its_equations():
    image = IMAGE[:, :, :7, :6]
    model = CNN(features=5, variant="impala")
    params, p = numpy_params(model, image)
    layers = iter(range(15))

    def convolve(values):
        layer = p[f"Conv_{next(layers)}"]
        return convolved(values, layer["kernel"], layer["bias"], 1, low=1)

    values = PIXELS[1, 2, :7, :6] / 255
    for channels in (16, 32, 32):
        values = pooled(convolve(values))
        assert values.shape[-1] == channels
        for _ in range(2):
            values = values + convolve(relu(convolve(relu(values))))
    values = relu(values).reshape(-1)
    expected = relu(values @ p["Dense_0"]["kernel"] + p["Dense_0"]["bias"])
    close(jax.jit(model.apply)(params, image)[1, 2], expected)


def test_minatar_is_its_equations():
    model = CNN(features=5, variant="minatar")
    params, p = numpy_params(model, SMALL)
    layer = p["Conv_0"]
    values = relu(convolved(PIXELS[1, 2, :6, :4] / 255, layer["kernel"], layer["bias"], 1, low=0))
    assert values.shape == (4, 2, 16)
    expected = relu(values.reshape(-1) @ p["Dense_0"]["kernel"] + p["Dense_0"]["bias"])
    close(jax.jit(model.apply)(params, SMALL)[1, 2], expected)


def test_patches_are_cut_row_by_row():
    model = PatchEmbedding(patch_size=2, features=3)
    params, p = numpy_params(model, SMALL)
    values = PIXELS[:, :, :6, :4] / 255
    patches = [
        values[:, :, row : row + 2, column : column + 2].reshape(2, 3, -1)
        for row in (0, 2, 4)
        for column in (0, 2)
    ]
    expected = np.stack(patches, axis=2) @ p["projection"]["kernel"] + p["projection"]["bias"]
    close(jax.jit(model.apply)(params, SMALL), expected)


def test_tokens_are_mapped_as_they_are():
    tokens = jax.random.normal(jax.random.key(0), (2, 3, 7, 5))
    model = PatchEmbedding(patch_size=8, features=4)
    params, p = numpy_params(model, tokens)
    expected = np.asarray(tokens) @ p["projection"]["kernel"] + p["projection"]["bias"]
    close(jax.jit(model.apply)(params, tokens), expected)
    outputs, _ = jax.eval_shape(vit().init_with_output, jax.random.key(0), tokens)
    assert outputs.shape == (2, 3, 4)


def test_a_vision_transformer_is_its_equations():
    model = vit(features=4, num_heads=2, pooling="class_token")
    params, p = numpy_params(model, SMALL)

    def norm(values, layer):
        values = values - values.mean(-1, keepdims=True)
        values = values / np.sqrt((values**2).mean(-1, keepdims=True) + 1e-6)
        return values * layer["scale"] + layer["bias"]

    def dense(values, layer):
        return values @ layer["kernel"] + layer["bias"]

    def attend(values, layer):
        out = layer["out"]["bias"]
        for head in range(2):
            query, key, value = (
                values @ layer[name]["kernel"][:, head] + layer[name]["bias"][head]
                for name in ("query", "key", "value")
            )
            scores = np.exp(query @ key.T / np.sqrt(2))
            weights = scores / scores.sum(-1, keepdims=True)
            out = out + weights @ value @ layer["out"]["kernel"][head]
        return out

    tokens = jax.jit(model.patch_embedding.apply)(
        {"params": params["params"]["patch_embedding"]}, SMALL
    )
    z = np.concatenate([p["class_token"][None], np.asarray(tokens[1, 2], np.float64)])
    z = z + p["position_embedding"]
    for index in range(2):
        z = z + attend(norm(z, p[f"attention_norm_{index}"]), p[f"attention_{index}"])
        feed_forward = p[f"feed_forward_{index}"]
        hidden = dense(norm(z, p[f"feed_forward_norm_{index}"]), feed_forward["up"])
        hidden = hidden * (1 + erf(hidden / np.sqrt(2))) / 2
        z = z + dense(hidden, feed_forward["down"])
    close(jax.jit(model.apply)(params, SMALL)[1, 2], norm(z, p["norm"])[0])


@each_extractor
def test_bytes_are_read_as_shares_of_255(model, image):
    params = draw_params(model, image)
    read = jax.jit(model.apply)
    close(read(params, image), read(params, image.astype(jnp.float32) / 255))


@each_extractor
def test_images_are_read_apart_from_one_another(model, image):
    params = draw_params(model, image)
    read = jax.jit(model.apply)
    features = read(params, image)
    assert features.shape[:2] == (2, 3)
    close(read(params, image[1:, 2:])[0, 0], features[1, 2])


@each_extractor
def test_images_reach_a_feature_extractor(model, image):
    extractor = FeatureExtractor(observation_extractor=model, reward_extractor=nn.Dense(2))
    arguments = (image, None, None, jnp.ones(image.shape[:2]))
    shapes = jax.eval_shape(extractor.init_with_output, jax.random.key(0), *arguments)[0]
    assert shapes.shape == (2, 3, model.features + 2)


def test_the_guides_transformer_extracts_features():
    feature_extractor = FeatureExtractor(
        observation_extractor=ViT(
            features=64,
            num_layers=4,
            num_heads=4,
            expansion_factor=4,
            patch_embedding=PatchEmbedding(patch_size=8, features=64),
        ),
    )
    image = jnp.zeros((2, 3, 64, 64, 3), jnp.uint8)
    shapes, _ = jax.eval_shape(feature_extractor.init_with_output, jax.random.key(0), image)
    assert shapes.shape == (2, 3, 64)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float64], ids=["bfloat16", "float64"])
@pytest.mark.parametrize("name", EXTRACTORS)
def test_precision_is_what_was_asked_for(name, dtype):
    model, image = EXTRACTORS[name]
    with jax.enable_x64(dtype == jnp.float64):
        field = "param_dtype" if dtype == jnp.float64 else "dtype"
        if isinstance(model, ViT):
            model = vit(pooling=model.pooling, **{field: dtype})
        else:
            model = model.clone(**{field: dtype})
        features, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), image)
        assert features.dtype == dtype
        expected = jnp.float64 if dtype == jnp.float64 else jnp.float32
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(expected)}


PATCHES = PatchEmbedding(patch_size=4, features=4)


@pytest.mark.parametrize(
    ("model", "inputs", "words"),
    [
        (PATCHES, jnp.ones((1, 1, 8, 6, 1)), "patch_size must divide .*=4, an image of 8 x 6"),
        (PATCHES, jnp.ones((1, 1, 3, 8, 1)), "patch_size must not exceed .*=4, an image of 3 x 8"),
        (PATCHES, jnp.ones((1, 1, 8, 8), jnp.uint8), r"last axis of channels.*\(1, 1, 8, 8\)"),
        (PATCHES, jnp.ones((1, 8, 8)), r"PatchEmbedding reads images .* got \(1, 8, 8\)"),
        (PATCHES, jnp.ones((1, 1, 0, 4)), r"PatchEmbedding needs at least one .*\(1, 1, 0, 4\)"),
        (PATCHES, jnp.ones((1, 1, 4, 4, 1), int), "PatchEmbedding reads uint8 .* got dtype int32"),
        (PATCHES, jnp.ones((1, 1, 4, 4, 1), bool), "PatchEmbedding reads uint8 .* got dtype bool"),
        (CNN(4), jnp.ones((1, 6, 4, 2)), r"CNN reads images of shape .* got \(1, 6, 4, 2\)"),
        (CNN(4), jnp.ones((1, 1, 40, 35, 1)), "'nature' need .* at least 36 x 36, got 40 x 35"),
        (CNN(4), jnp.ones((1, 1, 40, 40, 1), jnp.int8), "CNN reads uint8 .* got dtype int8"),
        (CNN(4, "impala"), jnp.ones((1, 1, 0, 4, 1)), r"CNN needs at least one of everything"),
    ],
)
def test_bad_images_are_refused_by_name(as_a_user, model, inputs, words):
    with pytest.raises(ValueError, match=words):
        model.init(jax.random.key(0), inputs)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: PatchEmbedding(0, 4), "PatchEmbedding.patch_size must be an integer .* got 0"),
        (lambda: PatchEmbedding(4, 2.0), "PatchEmbedding.features must be an integer .* got 2.0"),
        (lambda: CNN(0), "CNN.features must be an integer of at least 1, got 0"),
        (lambda: CNN(4, "natur"), "unknown CNN.variant 'natur'; the closest are: nature"),
        (lambda: vit(pooling="max"), "unknown ViT.pooling 'max'"),
        (lambda: vit(num_layers=0), "ViT.num_layers must be an integer of at least 1"),
        (
            lambda: vit(features=5),
            "ViT.features must be divisible by num_heads, got features=5, num_heads=2",
        ),
        (lambda: vit(expansion_factor=0), "ViT.expansion_factor must be a number of .* 0.25, got"),
        (
            lambda: ViT(8, 1, 2, 2, patch_embedding=PATCHES),
            "those of its patch_embedding, got features=8, patch_embedding.features=4",
        ),
        (lambda: ViT(4, 1, 2, 2, patch_embedding=3), "ViT.patch_embedding must be a Flax module"),
        (lambda: ViT(4, 1, 2, 2, patch_embedding=PatchEmbedding), "got the class PatchEmbedding"),
    ],
)
def test_bad_fields_are_refused_by_name(as_a_user, make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_tokens_of_another_width_are_refused_by_name():
    model = ViT(4, 1, 2, 2, patch_embedding=nn.Dense(3))
    with pytest.raises(ValueError, match=r"must return .* features=4, got \(1, 1, 5, 3\)"):
        model.init(jax.random.key(0), jnp.ones((1, 1, 5, 2)))


def test_an_image_of_another_size_is_refused_by_name():
    params = draw_params(vit(), SMALL)
    with pytest.raises(ValueError, match="learnt 7 positions of 4 features, got 5 tokens of 4"):
        vit().apply(params, SMALL[:, :, :4])
