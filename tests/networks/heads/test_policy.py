import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from memorax import distributions
from memorax.networks import heads
from tests.networks.samples import draw_params

BATCH, TIME, FEATURES = 3, 6, 16
INPUTS = jax.random.normal(jax.random.key(0), (BATCH, TIME, FEATURES))


def apply(head, *inputs):
    return jax.jit(head.apply)(draw_params(head, INPUTS), INPUTS, *inputs)


def test_what_a_mask_forbids_has_no_probability_and_the_rest_shares_it():
    head = heads.Categorical(5)
    mask = jax.random.bernoulli(jax.random.key(3), 0.5, (BATCH, TIME, 5)).at[..., 2].set(True)
    assert not mask.all()
    free, masked = apply(head), apply(head, mask)
    expected = np.where(mask, scipy.special.softmax(np.asarray(free.logits, np.float64), -1), 0)
    expected /= expected.sum(-1, keepdims=True)
    np.testing.assert_allclose(masked.probs, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(masked.probs[~mask], 0)
    np.testing.assert_allclose(
        masked.entropy(), scipy.stats.entropy(expected, axis=-1), rtol=1e-5, atol=1e-6
    )
    assert np.isfinite(masked.log_prob(mask.argmin(-1))).all()
    drawn = masked.sample(seed=jax.random.key(4), sample_shape=200)
    assert np.take_along_axis(np.asarray(mask)[None], np.asarray(drawn)[..., None], -1).all()
    assert np.take_along_axis(np.asarray(mask), np.asarray(masked.mode())[..., None], -1).all()
    np.testing.assert_array_equal(apply(head, jnp.ones_like(mask)).logits, free.logits)


def test_where_a_mask_forbids_all_the_distribution_is_uniform_and_finite():
    head = heads.Categorical(5)
    params = draw_params(head, INPUTS)
    mask = jnp.ones((BATCH, TIME, 5), bool).at[1, 2].set(False)

    @jax.jit
    def step(params):
        def objective(params):
            distribution = head.apply(params, INPUTS, mask)
            action = jnp.ones((BATCH, TIME), int)
            return (distribution.log_prob(action) + distribution.entropy()).sum(), distribution

        return jax.grad(objective, has_aux=True)(params)

    gradients, distribution = step(params)
    np.testing.assert_allclose(distribution.probs[1, 2], 1 / 5, rtol=1e-6)
    np.testing.assert_allclose(distribution.entropy()[1, 2], np.log(5), rtol=1e-6)
    for leaf in jax.tree.leaves(gradients):
        assert np.isfinite(leaf).all()
        assert np.abs(leaf).max() > 0


@pytest.mark.parametrize(
    "mask", [jnp.ones((BATCH, TIME, 4), bool), jnp.ones((BATCH, TIME, 5))], ids=["shape", "dtype"]
)
def test_a_mask_that_does_not_fit_is_refused(mask, as_a_user):
    message = r"Categorical: action_mask must be bool of shape .* = \(3, 6, 5\), got"
    with pytest.raises(ValueError, match=message):
        apply(heads.Categorical(5), mask)


def test_a_gaussians_scale_can_depend_on_the_state():
    head = heads.Gaussian(2, state_dependent_scale=True)
    params = draw_params(head, INPUTS)
    distribution = head.apply(params, INPUTS)
    log_scale = params["params"]["log_scale"]
    log_scale = np.asarray(INPUTS, np.float64) @ log_scale["kernel"] + log_scale["bias"]
    assert np.std(log_scale, axis=(0, 1)).min() > 0.1
    scale = np.exp(np.clip(log_scale, -20, 2))
    np.testing.assert_allclose(distribution.stddev(), scale, rtol=1e-5)
    action = distribution.sample(seed=jax.random.key(2))
    normals = scipy.stats.norm(np.asarray(distribution.mean(), np.float64), scale)
    np.testing.assert_allclose(
        distribution.log_prob(action), normals.logpdf(action).sum(-1), rtol=1e-5, atol=1e-4
    )


@pytest.mark.parametrize(
    "head", [heads.Gaussian(2, state_dependent_scale=True), heads.SquashedGaussian(2)]
)
def test_a_state_dependent_scale_stays_within_its_bounds(head):
    params = draw_params(head, INPUTS)
    head = head.clone(log_scale_bounds=(-3.0, 1.0))
    distribution = head.apply(params, 1e3 * INPUTS)
    squashes = isinstance(distribution, heads.SquashedNormal)
    scale = distribution.scale if squashes else distribution.stddev()
    np.testing.assert_allclose(scale.min(), np.exp(-3), rtol=1e-5)
    np.testing.assert_allclose(scale.max(), np.exp(1), rtol=1e-5)


def squashed(mean, scale, low=-1.0, high=1.0):
    mean, scale = jnp.atleast_1d(jnp.asarray(mean)), jnp.atleast_1d(jnp.asarray(scale))
    low, high = (jnp.full(mean.shape[-1], bound, mean.dtype) for bound in (low, high))
    return heads.SquashedNormal(mean, scale, low, high)


@pytest.mark.parametrize(
    ("mean", "scale", "low", "high"),
    [(0.0, 0.5, -1.0, 1.0), (1.5, 0.4, -2.0, 2.0), (-0.3, 0.9, 3.0, 8.0)],
)
def test_a_squashed_density_integrates_to_one_and_is_that_of_the_change_of_variables(
    mean, scale, low, high
):
    with jax.enable_x64(True):
        distribution = squashed(mean, scale, low, high)
        grid = np.linspace(low, high, 200_001)[1:-1]
        log_prob = np.asarray(distribution.log_prob(jnp.asarray(grid)[:, None]))
    np.testing.assert_allclose(np.trapezoid(np.exp(log_prob), grid), 1, rtol=1e-6)
    # The derivative of the distribution function, which needs no Jacobian.
    unit = 2 * (grid - low) / (high - low) - 1
    cumulative = scipy.stats.norm.cdf(np.arctanh(unit), mean, scale)
    density = np.gradient(cumulative, grid)
    np.testing.assert_allclose(np.exp(log_prob)[1:-1], density[1:-1], rtol=1e-3, atol=1e-5)


def test_samples_of_a_squashed_gaussian_come_with_their_exact_log_probability():
    mean = jnp.asarray([0.0, 3.0, -15.0, 40.0])[:, None]
    distribution = squashed(mean, jnp.full_like(mean, 0.5), -2.0, 2.0)
    key = jax.random.key(0)
    action, log_prob = distribution.sample_and_log_prob(seed=key)
    normal = distributions.Normal(mean, 0.5)
    latent = np.asarray(normal.sample(seed=key), np.float64)
    np.testing.assert_allclose(action, 2 * np.tanh(latent), rtol=1e-6)
    np.testing.assert_allclose(np.abs(action[2:]), 2, rtol=1e-6)
    log_det = np.log(2) + 2 * (np.log(2) - latent - np.logaddexp(0, -2 * latent))
    expected = scipy.stats.norm.logpdf(latent, mean, 0.5) - log_det
    np.testing.assert_allclose(log_prob, expected[:, 0], rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_log_probabilities_of_saturated_actions_are_finite_with_finite_gradients(dtype):
    with jax.enable_x64(dtype == "float64"):
        loc = jnp.asarray([0.5, -0.5, 9.0], dtype)
        low, high = jnp.full_like(loc, -3), jnp.full_like(loc, 0.3)
        beyond = high + jnp.finfo(dtype).epsneg

        def log_prob(loc, scale, action):
            return heads.SquashedNormal(loc, scale, low, high).log_prob(action)

        slopes = jax.jit(jax.vmap(jax.value_and_grad(log_prob, argnums=(0, 1, 2)), (None, None, 0)))
        numbers = slopes(loc, jnp.ones_like(loc), jnp.stack([low, high, beyond]))
        for leaf in jax.tree.leaves(numbers):
            assert np.isfinite(np.asarray(leaf, np.float64)).all()
        assert np.abs(np.asarray(numbers[1][0], np.float64)).min() > 0


def test_a_squashed_gaussian_stays_within_its_bounds_and_has_a_mode_between():
    head = heads.SquashedGaussian(2, low=(-2.0, 0.0), high=(2.0, 5.0))
    distribution = apply(head)
    action = distribution.sample(seed=jax.random.key(2), sample_shape=1000)
    assert action.shape == (1000, BATCH, TIME, 2)
    low, high = np.asarray(head.low), np.asarray(head.high)
    assert (action >= low - 1e-6).all()
    assert (action <= high + 1e-6).all()
    mean = np.asarray(distribution.loc, np.float64)
    expected = low + (high - low) * (np.tanh(mean) + 1) / 2
    np.testing.assert_allclose(distribution.mode(), expected, rtol=1e-5, atol=1e-5)
    # It is the median: as many samples on either side.
    np.testing.assert_allclose((action > distribution.mode()).mean(0), 0.5, atol=0.08)


def test_samples_of_a_squashed_gaussian_are_reparametrised():
    mean, scale, key = jnp.asarray([0.3, -0.2]), jnp.asarray([0.5, 0.8]), jax.random.key(0)

    def total(mean, scale):
        return squashed(mean, scale, -2.0, 2.0).sample(seed=key).sum()

    to_mean, to_scale = jax.grad(total, argnums=(0, 1))(mean, scale)
    latent = np.arctanh(np.asarray(squashed(mean, scale).sample(seed=key), np.float64))
    slope = 2 * (1 - np.tanh(latent) ** 2)
    np.testing.assert_allclose(to_mean, slope, rtol=1e-4)
    np.testing.assert_allclose(to_scale, slope * (latent - mean) / scale, rtol=1e-4)


@pytest.mark.parametrize("head", [heads.Gaussian(2), heads.SquashedGaussian(2)])
def test_a_distribution_that_jit_returns_is_as_good_as_another(head):
    params = draw_params(head, INPUTS)
    distribution = head.apply(params, INPUTS)
    jitted = jax.jit(head.apply)(params, INPUTS)
    action = jnp.full((BATCH, TIME, 2), 0.3)
    np.testing.assert_allclose(
        jitted.log_prob(action), distribution.log_prob(action), rtol=1e-5, atol=1e-5
    )
    assert jitted.batch_shape == (BATCH, TIME)
    assert jitted.event_shape == (2,)
    seeds = jax.vmap(lambda inputs: head.apply(params, inputs))(INPUTS[None])
    np.testing.assert_allclose(seeds.mode()[0], distribution.mode(), rtol=1e-5, atol=1e-6)


def test_the_temperature_follows_the_entropy():
    head = heads.Temperature(target_entropy=-2.0, initial_temperature=0.2)
    params = head.init(jax.random.key(0))
    np.testing.assert_allclose(head.apply(params), 0.2, rtol=1e-6)

    def loss(params, log_prob):
        return head.loss(head.apply(params), log_prob).mean()

    log_prob = jnp.asarray([[0.5, 1.0], [3.0, 2.5]])
    (to_params, to_policy) = jax.grad(loss, argnums=(0, 1))(params, log_prob)
    np.testing.assert_allclose(loss(params, log_prob), -0.2 * (log_prob.mean() - 2), rtol=1e-6)
    # The entropy, -1.75, is above its target of -2: the temperature falls.
    np.testing.assert_allclose(to_params["params"]["log_temperature"], 0.2 * 0.25, rtol=1e-5)
    np.testing.assert_array_equal(to_policy, 0)
    too_sure = jax.grad(loss)(params, log_prob + 1)["params"]["log_temperature"]
    np.testing.assert_allclose(too_sure, -0.2 * 0.75, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: heads.SquashedGaussian(0), "SquashedGaussian.action_dim must be an integer"),
        (
            lambda: heads.SquashedGaussian(2, low=(0.0, 1.0, 2.0)),
            r"SquashedGaussian.low must be one number or one for each of the 2 dimensions",
        ),
        (
            lambda: heads.SquashedGaussian(2, low=(0.0, 1.0)),
            r"SquashedGaussian's low and high must be a lower and a higher number, got \(1.0, 1.0",
        ),
        (
            lambda: heads.SquashedGaussian(1, high=float("inf")),
            "SquashedGaussian's low and high must be a number from .* got inf",
        ),
        (
            lambda: heads.SquashedGaussian(1, log_scale_bounds=(2.0, -20.0)),
            r"SquashedGaussian.log_scale_bounds must be a lower .* got \(2.0, -20.0\)",
        ),
        (lambda: heads.Gaussian(1, log_scale_bounds=-1.0), "Gaussian.log_scale_bounds must be two"),
        (lambda: heads.Temperature(float("nan")), "Temperature.target_entropy must be a number"),
        (lambda: heads.Temperature(-1.0, 0.0), "Temperature.initial_temperature must be a number"),
    ],
)
def test_what_cannot_be_is_refused(make, words, as_a_user):
    with pytest.raises(ValueError, match=words):
        make()
