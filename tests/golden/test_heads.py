"""Heads against the numbers of independent implementations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax.networks import heads
from tests.golden.cases import TOLERANCES, assert_golden, cast, load

each_dtype = pytest.mark.parametrize("dtype", TOLERANCES, ids=lambda dtype: dtype.__name__)


@each_dtype
def test_c51_projects_and_loses_what_rlax_and_dopamine_do(dtype):
    arrays = load("c51_hlgauss")
    first, last = arrays["c51_z"][[0, -1]].tolist()
    rows, actions, atoms = arrays["c51_logits"].shape
    head = heads.C51QNetwork(actions, num_atoms=atoms, v_min=first, v_max=last)
    with jax.enable_x64(dtype is np.float64):
        output, next_output = (
            heads.ValueDistribution(cast(arrays[name], dtype)[None], first, last)
            for name in ("c51_logits", "c51_logits_next")
        )
        reward, discount = (
            cast(arrays[name], dtype)[None] for name in ("c51_reward", "c51_discount")
        )
        assert_golden(output.atoms, arrays["c51_z"], dtype)
        values = heads.expected_value(next_output)
        assert_golden(values, arrays["c51_q_next"][None], dtype)
        best = values.argmax(-1)
        np.testing.assert_array_equal(best, arrays["c51_a_star"][None])
        chosen = heads.select_action(next_output, best)
        target = jax.jit(head.bellman_target)(reward, discount, chosen)
        assert_golden(target, arrays["c51_proj"][None], dtype)
        action = jnp.asarray(arrays["c51_action"])[None]
        loss = head.loss(heads.select_action(output, action), target)
        assert_golden(loss, arrays["c51_loss"][None], dtype)
        assert loss.shape == (1, rows)


@each_dtype
@pytest.mark.parametrize(
    ("support", "bounds", "smoothed", "probs", "mean"),
    [
        ("twohot_centres", "centres", False, "twohot_probs", None),
        ("hl_edges", "edges", True, "hl_probs", "hl_mean"),
        ("twohot_centres", "centres", True, "hl_probs_oncentre", "hl_mean_oncentre"),
    ],
    ids=["two_hot", "smoothed_from_edge_to_edge", "smoothed_from_centre_to_centre"],
)
def test_histograms_of_values_are_those_of_the_oracle(
    support, bounds, smoothed, probs, mean, dtype
):
    arrays = load("c51_hlgauss")
    probs, mean = arrays[probs], arrays[mean] if mean else None
    first, last = arrays[support][[0, -1]].tolist()
    # The oracle gives sigma of both smoothed cases as 0.75 of the bins' width.
    smoothing = arrays["hl_sigma"] / np.diff(arrays["hl_edges"][:2])[0] if smoothed else None
    head = heads.HLGaussVNetwork(
        probs.shape[-1],
        first,
        last,
        smoothing=smoothing if smoothing is None else float(smoothing),
        bounds=bounds,
    )
    with jax.enable_x64(dtype is np.float64):
        target = cast(arrays["targets"], dtype)[None]
        histogram = jax.jit(head.histogram)(target)
        assert_golden(histogram, probs[None], dtype)
        logits = cast(arrays["hl_logits"], dtype)[None]
        output, _ = jax.eval_shape(head.init_with_output, jax.random.key(0), logits)
        decoded = jax.tree.map(lambda _: jnp.log(histogram), output).mean
        clipped = np.clip(arrays["targets"], first, last)
        assert_golden(decoded, (clipped if mean is None else mean)[None], dtype)
        loss = jax.jit(head.loss)(jax.tree.map(lambda _: logits, output), target)
        if bounds == "edges":
            expected = arrays["hl_loss"]
        else:
            normalizer = np.log(np.exp(arrays["hl_logits"]).sum(-1, keepdims=True))
            expected = -(probs * (arrays["hl_logits"] - normalizer)).sum(-1)
        assert_golden(loss, expected[None], dtype)


@each_dtype
@pytest.mark.parametrize("scaled", [False, True], ids=["within_1", "within_bounds"])
def test_squashed_log_probabilities_are_those_of_distrax_and_torch(dtype, scaled):
    arrays = load("squashed_gaussian")
    mean, log_std = arrays["mean"], arrays["log_std"]
    actions = mean.shape[-1]
    low, high = (
        tuple(arrays[name].tolist()) if scaled else default
        for name, default in (("low", -1.0), ("high", 1.0))
    )
    head = heads.SquashedGaussian(actions, low=low, high=high, param_dtype=dtype)
    # The features are the mean and the logarithm of the scale, side by side.
    of_mean, of_log_std = np.split(np.eye(2 * actions), 2, axis=-1)
    params = {
        "mean": {"kernel": of_mean, "bias": np.zeros(actions)},
        "log_scale": {"kernel": of_log_std, "bias": np.zeros(actions)},
    }
    expected = arrays["logp_scaled" if scaled else "logp"][None]
    action = arrays["action"][None]
    if scaled:
        action = arrays["low"] + (arrays["high"] - arrays["low"]) * (action + 1) / 2
    with jax.enable_x64(dtype is np.float64):
        features = cast(np.concatenate([mean, log_std], axis=-1), dtype)[None]
        distribution = jax.jit(head.apply)({"params": cast(params, dtype)}, features)
        latent = cast(arrays["pre_tanh"], dtype)[None]
        assert_golden(distribution.squash(latent), action, dtype)
        log_prob = distribution.log_prob_of_latent(latent)
        assert_golden(log_prob, expected, dtype)
        # Each by itself too: the largest is far larger than the others.
        tolerance = TOLERANCES[dtype]
        np.testing.assert_allclose(log_prob, expected, rtol=tolerance, atol=10 * tolerance)
        if dtype is np.float64:
            # From the action alone, as long as it still tells the value before squashing.
            told = np.abs(arrays["pre_tanh"]).max(-1) < 5
            from_action = distribution.log_prob(cast(action, dtype))
            np.testing.assert_allclose(
                from_action[:, told], expected[:, told], rtol=1e-9, atol=1e-8
            )
