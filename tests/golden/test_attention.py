import jax
import numpy as np
import pytest

from memorax.networks import (
    ALiBi,
    RelativePositionalEmbedding,
    RoPE,
    SegmentRecurrence,
    SelfAttention,
    SelfAttentionConfig,
)
from tests.golden.cases import TOLERANCES, assert_golden, cast, load

ATTENTION, TRANSFORMER_XL = load("rope_alibi_attention"), load("transformer_xl")
BATCH, TIME, HEADS, HEAD_DIM = ATTENTION["q"].shape


@pytest.fixture(params=TOLERANCES, ids=lambda dtype: dtype.__name__)
def dtype(request):
    with jax.enable_x64(request.param is np.float64):
        yield request.param


@pytest.mark.parametrize(
    ("name", "embedding", "context_length"),
    [
        ("none", None, TIME),
        ("none_w8", None, 8),
        ("rope_half", RoPE(), TIME),
        ("rope_half_w8", RoPE(), 8),
        ("rope_inter", RoPE(interleaved=True), TIME),
        ("alibi", ALiBi(HEADS), TIME),
        ("alibi_w8", ALiBi(HEADS), 8),
    ],
)
def test_attention_is_that_of_other_libraries(name, embedding, context_length, dtype):
    features = HEADS * HEAD_DIM
    # The oracle has no projections: the inputs are its queries, keys and values side by side.
    inputs = np.concatenate([ATTENTION[part].reshape(BATCH, TIME, -1) for part in "qkv"], axis=-1)
    chosen = np.split(np.eye(3 * features), 3)
    params = {
        name: {"kernel": rows.T}
        for name, rows in zip(("query", "key", "value"), chosen, strict=True)
    }
    params["output"] = {"kernel": np.eye(features)}
    config = SelfAttentionConfig(features, HEADS, context_length, embedding)
    model = SelfAttention(config, block_size=16, param_dtype=dtype)
    variables = cast({"params": params}, dtype)
    done = jax.numpy.asarray(ATTENTION["start"])
    _, outputs = jax.jit(model.apply)(variables, cast(inputs, dtype), done)
    expected = ATTENTION[f"out_{name}"].reshape(BATCH, TIME, features)
    assert_golden(outputs, expected, dtype)


def test_slopes_are_those_of_other_libraries():
    names = [name for name in ATTENTION if name.startswith("slopes_")]
    assert len(names) > 1
    for name in names:
        expected = ATTENTION[name]
        # The oracle's own are of float32.
        np.testing.assert_allclose(ALiBi(len(expected)).slopes(), expected, rtol=1e-6)


@pytest.mark.parametrize("context_length", ["segment", 5])
def test_segment_recurrence_is_that_of_transformer_xl(context_length, dtype):
    case = TRANSFORMER_XL
    time, remembered = case["x"].shape[1], case["mem"].shape[1]
    heads, head_dim = case["u"].shape
    features = case["x"].shape[-1]
    # All of the segment and the memory is seen, be it in the context or behind it.
    context_length = time if context_length == "segment" else context_length
    config = SelfAttentionConfig(
        features,
        heads,
        context_length,
        RelativePositionalEmbedding(features, dtype),
        head_dim=head_dim,
    )
    model = SegmentRecurrence(
        SelfAttention(config, param_dtype=dtype), time + remembered - context_length, features
    )
    projections = np.split(case["param_Wqkv"].T, 3, axis=1)
    params = {
        "query": {"kernel": projections[0]},
        "key": {"kernel": projections[1]},
        "value": {"kernel": projections[2]},
        "output": {"kernel": case["param_Wo"].T},
        "positional_embedding": {
            "kernel": case["param_Wr"].T,
            "content_bias": case["u"],
            "position_bias": case["v"],
        },
    }

    def normalized(values):
        centred = values - values.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return cast(scaled * case["param_ln_w"] + case["param_ln_b"], dtype)

    variables = cast({"params": {"sequence_model": params}}, dtype)
    apply = jax.jit(model.apply)
    x = cast(case["x"], dtype)
    carry, _ = apply(variables, normalized(case["mem"]))
    _, outputs = apply(variables, normalized(case["x"]), initial_carry=carry)
    assert_golden(x + outputs, case["out"], dtype)
    _, outputs = apply(variables, normalized(case["x"]))
    assert_golden(x + outputs, case["out_nomem"], dtype)
