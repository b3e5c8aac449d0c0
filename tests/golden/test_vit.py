from functools import partial

import jax
import numpy as np
import pytest

from memorax.networks import PatchEmbedding, ViT
from tests.golden.cases import TOLERANCES, assert_golden, cast, load

CASE = load("vit")
PARAMS = {
    key.removeprefix("param_"): array for key, array in CASE.items() if key.startswith("param_")
}
LAYERS = len([key for key in PARAMS if key.endswith("attention.q_proj.bias")])
HEADS = 3  # The one number that no array's shape tells.
PATCH = PARAMS["embeddings.patch_embeddings.projection.weight"]
IMAGE = np.moveaxis(CASE["image"], 1, -1)[:, None]


def linear(name):
    return {"kernel": PARAMS[f"{name}.weight"].T, "bias": PARAMS[f"{name}.bias"]}


def norm(name):
    return {"scale": PARAMS[f"{name}.weight"], "bias": PARAMS[f"{name}.bias"]}


def attention(name):
    def into_heads(projection):
        return {
            key: array.reshape(*array.shape[:-1], HEADS, -1)
            for key, array in linear(f"{name}.{projection}_proj").items()
        }

    out = linear(f"{name}.o_proj")
    return {
        "query": into_heads("q"),
        "key": into_heads("k"),
        "value": into_heads("v"),
        "out": out | {"kernel": out["kernel"].reshape(HEADS, -1, out["kernel"].shape[-1])},
    }


def patch_embedding():
    # The oracle's kernel is [out, channel, row, column].
    kernel = PATCH.transpose(2, 3, 1, 0).reshape(-1, len(PATCH))
    bias = PARAMS["embeddings.patch_embeddings.projection.bias"]
    return {"projection": {"kernel": kernel, "bias": bias}}


def parameters(pooling):
    positions = PARAMS["embeddings.position_embeddings"][0]
    mapped = {"patch_embedding": patch_embedding(), "norm": norm("layernorm")}
    if pooling == "class_token":
        mapped["class_token"] = PARAMS["embeddings.cls_token"].reshape(-1)
        mapped["position_embedding"] = positions
    else:
        mapped["position_embedding"] = positions[1:]
    for index in range(LAYERS):
        layer = f"layers.{index}"
        mapped |= {
            f"attention_norm_{index}": norm(f"{layer}.layernorm_before"),
            f"attention_{index}": attention(f"{layer}.attention"),
            f"feed_forward_norm_{index}": norm(f"{layer}.layernorm_after"),
            f"feed_forward_{index}": {
                "up": linear(f"{layer}.mlp.fc1"),
                "down": linear(f"{layer}.mlp.fc2"),
            },
        }
    return mapped


@pytest.mark.parametrize("dtype", TOLERANCES, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("pooling", ["class_token", "mean"])
def test_features_are_those_of_hugging_face(pooling, dtype):
    features, _, patch_size, _ = PATCH.shape
    hidden_dim = PARAMS["layers.0.mlp.fc1.bias"].size
    tokens, expected = CASE["last_hidden"], CASE["last_hidden"][:, :1]
    if pooling == "mean":
        tokens, expected = CASE["nocls_hidden"], CASE["nocls_mean"][:, None]
    with jax.enable_x64(dtype is np.float64):
        model = ViT(
            features=features,
            num_layers=LAYERS,
            num_heads=HEADS,
            expansion_factor=hidden_dim / features,
            patch_embedding=PatchEmbedding(patch_size, features, param_dtype=dtype),
            pooling=pooling,
            param_dtype=dtype,
        )
        apply = partial(model.apply, capture_intermediates=lambda module, _: module.name == "norm")
        actual, captured = jax.jit(apply)(
            {"params": cast(parameters(pooling), dtype)}, cast(IMAGE, dtype)
        )
        (last_norm,) = captured["intermediates"]["norm"]["__call__"]
        assert_golden((actual, last_norm), (expected, tokens), dtype)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=lambda dtype: dtype.__name__)
def test_patches_become_the_tokens_of_hugging_face(dtype):
    features, _, patch_size, _ = PATCH.shape
    with jax.enable_x64(dtype is np.float64):
        model = PatchEmbedding(patch_size, features, param_dtype=dtype)
        actual = model.apply({"params": cast(patch_embedding(), dtype)}, cast(IMAGE, dtype))
        positions = PARAMS["embeddings.position_embeddings"][0, 1:]
        expected = CASE["embed"][:, None, 1:] - positions
        assert_golden(actual, expected, dtype)
