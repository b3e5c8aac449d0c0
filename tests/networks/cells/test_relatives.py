"""RetNet and HGRN2 are configurations of gated linear attention: each against its own equations."""

import jax
import numpy as np
import pytest

from memorax.networks import GatedLinearAttentionCell, GatedLinearAttentionConfig, Memoroid
from tests.networks.samples import draw

FEATURES, HEADS, BATCH, TIME = 6, 2, 2, 9
INPUTS = np.random.default_rng(0).standard_normal((BATCH, TIME, FEATURES))
DONE = np.random.default_rng(1).random((BATCH, TIME)) < 0.3


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def normalised(o):
    return o / np.sqrt((o**2).mean(-1, keepdims=True) + 1e-5)


def retention(q, k, v, own, x):
    """Sun et al. 2023, equations 6 and 8: what lies n steps back counts gamma^n."""
    gamma = 1 - 2.0 ** (-5 - np.arange(HEADS))
    weights = gamma[:, None, None] ** np.subtract.outer(np.arange(TIME), np.arange(TIME))
    o = np.zeros_like(v)
    episode = np.cumsum(DONE, axis=1)
    for b in range(BATCH):
        seen = np.tril(episode[b][:, None] == episode[b][None, :])
        scores = np.einsum("thk,shk->hts", q[b], k[b]) / q.shape[-1] ** 0.5
        o[b] = np.einsum("hts,shv->thv", np.where(seen, scores * weights, 0), v[b])
    gate = x @ own["gate"]["kernel"]
    return (normalised(o) * own["norm"]).reshape(x.shape) * gate * sigmoid(gate)


def hgrn2(q, k, v, own, x):
    """Qin et al. 2024, equation 8: h' = diag(f) h + (1 - f) i^T."""
    low = x @ own["forget_down"]["kernel"] @ own["forget_up"]["kernel"]
    f = sigmoid(low + own["forget_up"]["bias"]).reshape(q.shape)
    o = np.zeros_like(v)
    for b in range(BATCH):
        for h in range(HEADS):
            state = 0
            for t in range(TIME):
                state = 0 if DONE[b, t] else state
                state = f[b, t, h][:, None] * state + np.outer(1 - f[b, t, h], v[b, t, h])
                o[b, t, h] = q[b, t, h] @ state / q.shape[-1] ** 0.5
    return (normalised(o) * own["norm"]).reshape(x.shape)


@pytest.mark.parametrize(
    ("config", "oracle"),
    [
        (GatedLinearAttentionConfig.retnet(FEATURES, HEADS), retention),
        (GatedLinearAttentionConfig.hgrn2(FEATURES, HEADS), hgrn2),
    ],
    ids=["retnet", "hgrn2"],
)
def test_configuration_computes_the_papers_recurrence(config, oracle):
    with jax.enable_x64(True):
        model = Memoroid(GatedLinearAttentionCell(config, param_dtype=np.float64))
        variables = draw(jax.eval_shape(model.init, jax.random.key(0), INPUTS))
        _, outputs = jax.jit(model.apply)(variables, INPUTS, DONE)
        own = jax.tree.map(np.asarray, variables["params"]["cell"])
    projected = INPUTS @ own["query_key_value"]["projection"]["kernel"]
    q, k, v = (part.reshape(BATCH, TIME, HEADS, -1) for part in np.split(projected, 3, axis=-1))
    expected = oracle(q, k, v, own, INPUTS) @ own["output"]["kernel"]
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-10 * np.abs(expected).max())
