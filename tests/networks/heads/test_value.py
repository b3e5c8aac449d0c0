import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from memorax.networks import heads
from tests.networks.samples import draw_params

BATCH, TIME, FEATURES = 3, 6, 16
INPUTS = jax.random.normal(jax.random.key(0), (BATCH, TIME, FEATURES))
# Within the support of SUPPORT, at its ends, at an atom, and outside.
SUPPORT = {"num_bins": 21, "v_min": -3.0, "v_max": 7.0}
TARGETS = jnp.asarray([[-3.0, 7.0, 2.0, -2.9, 6.8, 0.123], [3.3, 5.55, -1.0, -9.0, 30.0, 1.75]])


def test_a_distributional_value_is_the_mean_over_its_atoms():
    head = heads.HLGaussVNetwork(**SUPPORT)
    output = jax.jit(head.apply)(draw_params(head, INPUTS), INPUTS)
    assert output.logits.shape == (BATCH, TIME, 21)
    np.testing.assert_allclose(output.atoms, np.linspace(-3, 7, 21), rtol=1e-6, atol=1e-6)
    probs = scipy.special.softmax(np.asarray(output.logits, np.float64), axis=-1)
    np.testing.assert_allclose(output.probs, probs, rtol=1e-5)
    expected = [[np.dot(row, np.linspace(-3, 7, 21)) for row in rows] for rows in probs]
    np.testing.assert_allclose(output.mean, expected, rtol=1e-5, atol=1e-5)
    assert np.std(output.mean) > 0.1
    np.testing.assert_array_equal(heads.expected_value(output), output.mean)
    np.testing.assert_array_equal(heads.expected_value(INPUTS), INPUTS)


def test_a_distributional_value_can_be_cut_and_scanned_like_any_output():
    head = heads.HLGaussVNetwork(**SUPPORT)
    params = draw_params(head, INPUTS)
    output = jax.jit(head.apply)(params, INPUTS)
    cut = jax.tree.map(lambda leaf: leaf[:, 1:3], output)
    np.testing.assert_allclose(cut.mean, output.mean[:, 1:3], rtol=1e-5, atol=1e-6)
    steps = jnp.swapaxes(INPUTS, 0, 1)[:, :, None]
    _, stacked = jax.lax.scan(lambda _, step: (None, head.apply(params, step)), None, steps)
    np.testing.assert_allclose(stacked.mean[..., 0].T, output.mean, rtol=1e-5, atol=1e-5)


def test_two_hot_lies_on_two_neighbours_whose_mean_is_the_target():
    head = heads.HLGaussVNetwork(**SUPPORT)
    histogram = np.asarray(jax.jit(head.histogram)(TARGETS))
    atoms = np.linspace(-3, 7, 21)
    for probs, target in zip(histogram.reshape(-1, 21), np.ravel(TARGETS), strict=True):
        np.testing.assert_allclose(probs @ atoms, np.clip(target, -3, 7), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(probs.sum(), 1, rtol=1e-6)
        held = np.flatnonzero(probs > 1e-5)
        assert len(held) == 1 or (len(held) == 2 and held[1] == held[0] + 1)


@pytest.mark.parametrize("bounds", ["centres", "edges"])
@pytest.mark.parametrize("smoothing", [0.75, 2.0])
def test_a_smoothed_histogram_is_the_mass_of_a_normal_distribution_in_each_bin(bounds, smoothing):
    head = heads.HLGaussVNetwork(**SUPPORT, smoothing=smoothing, bounds=bounds)
    width = 10 / (20 if bounds == "centres" else 21)
    first = -3 - (width / 2 if bounds == "centres" else 0)
    histogram = np.asarray(jax.jit(head.histogram)(TARGETS)).reshape(-1, 21)
    for probs, target in zip(histogram, np.ravel(TARGETS), strict=True):
        normal = scipy.stats.norm(np.clip(float(target), -3, 7), smoothing * width)
        mass = [
            normal.cdf(first + (index + 1) * width) - normal.cdf(first + index * width)
            for index in range(21)
        ]
        np.testing.assert_allclose(probs, np.array(mass) / np.sum(mass), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("smoothing", [None, 0.75], ids=["two_hot", "smoothed"])
def test_the_distributional_loss_is_a_cross_entropy_that_leads_to_the_target(smoothing):
    head = heads.HLGaussVNetwork(**SUPPORT, smoothing=smoothing)
    inputs, target = jnp.ones((2, 6, 1)), jnp.clip(TARGETS, -2.0, 6.0)
    output = head.apply(draw_params(head, inputs), inputs)
    output = jax.tree.map(lambda leaf: jax.random.normal(jax.random.key(0), leaf.shape), output)
    log_probs = scipy.special.log_softmax(np.asarray(output.logits, np.float64), axis=-1)
    expected = -(np.asarray(jax.jit(head.histogram)(target)) * log_probs).sum(-1)
    np.testing.assert_allclose(jax.jit(head.loss)(output, target), expected, rtol=1e-5)

    @jax.jit
    def descend(output):
        def step(output, _):
            slope = jax.grad(lambda output: head.loss(output, target).sum())(output)
            return jax.tree.map(lambda leaf, slope: leaf - 2.0 * slope, output, slope), None

        return jax.lax.scan(step, output, length=3000)[0]

    np.testing.assert_allclose(descend(output).mean, target, atol=0.02)


def test_the_first_distribution_is_nearly_uniform():
    output, _ = jax.jit(heads.HLGaussVNetwork().init_with_output)(jax.random.key(1), INPUTS)
    assert output.logits.shape == (BATCH, TIME, 101)
    np.testing.assert_allclose(output.probs, 1 / 101, rtol=0.1)
    np.testing.assert_allclose(output.mean, 0, atol=0.1)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"num_bins": 1}, "num_bins must be an integer of at least 2, got 1"),
        ({"num_bins": 0}, "num_bins must be an integer of at least 2, got 0"),
        ({"v_min": 1.0, "v_max": 1.0}, "v_min must be less than v_max, got v_min=1.0, v_max=1.0"),
        ({"v_min": 11.0}, "v_min must be less than v_max, got v_min=11.0, v_max=10.0"),
        ({"v_max": float("inf")}, "v_max must be a number from .* got inf"),
        ({"v_min": float("nan")}, "v_min must be a number from .* got nan"),
        ({"smoothing": 0.0}, "smoothing must be a number from 0.001 to 101, got 0.0"),
        ({"smoothing": -0.75}, "smoothing must be a number from 0.001 to 101, got -0.75"),
        ({"bounds": "center"}, 'bounds must be "centres" or "edges", got \'center\''),
    ],
)
def test_a_support_that_is_none_is_refused(fields, words, as_a_user):
    with pytest.raises(ValueError, match=f"HLGaussVNetwork.{words}"):
        heads.HLGaussVNetwork(**fields)
