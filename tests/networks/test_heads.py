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


def apply(head):
    return head.apply(draw_params(head, INPUTS), INPUTS)


def apply_at_first(head):
    outputs, _ = head.init_with_output(jax.random.key(1), INPUTS)
    return outputs


def test_categorical_has_a_distribution_a_step_with_the_probabilities_of_its_logits():
    distribution = apply(heads.Categorical(5))
    assert isinstance(distribution, distributions.Categorical)
    assert distribution.logits.shape == (BATCH, TIME, 5)
    action = distribution.sample(seed=jax.random.key(2))
    assert action.shape == (BATCH, TIME)
    assert jnp.issubdtype(action.dtype, jnp.integer)
    log_probs = scipy.special.log_softmax(np.asarray(distribution.logits, np.float64), axis=-1)
    expected = np.take_along_axis(log_probs, np.asarray(action)[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(distribution.log_prob(action), expected, rtol=1e-5, atol=1e-6)
    expected = scipy.stats.entropy(np.exp(log_probs), axis=-1)
    np.testing.assert_allclose(distribution.entropy(), expected, rtol=1e-5)
    # A policy that does not see its features has the right probabilities of the wrong logits.
    assert np.std(distribution.logits, axis=(0, 1)).min() > 0.1


def test_gaussian_has_a_distribution_a_step_of_independent_normals():
    head = heads.Gaussian(2)
    params = draw_params(head, INPUTS)
    log_scale = np.asarray(params["params"]["log_scale"], np.float64)
    assert np.abs(log_scale).min() > 0.01
    distribution = head.apply(params, INPUTS)
    assert isinstance(distribution, distributions.Distribution)
    assert (distribution.batch_shape, distribution.event_shape) == ((BATCH, TIME), (2,))
    action = distribution.sample(seed=jax.random.key(2))
    assert action.shape == distribution.mean().shape == (BATCH, TIME, 2)
    normals = scipy.stats.norm(np.asarray(distribution.mean(), np.float64), np.exp(log_scale))
    np.testing.assert_allclose(
        distribution.log_prob(action), normals.logpdf(action).sum(-1), rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(distribution.entropy(), normals.entropy().sum(-1), rtol=1e-5)
    assert np.std(distribution.mean(), axis=(0, 1)).min() > 0.1


def test_a_gaussian_learns_one_scale_a_dimension():
    variables = jax.eval_shape(heads.Gaussian(2).init, jax.random.key(0), INPUTS)
    assert jax.tree.map(jnp.shape, variables["params"]) == {
        "mean": {"kernel": (FEATURES, 2), "bias": (2,)},
        "log_scale": (2,),
    }


def test_the_first_policy_hardly_depends_on_what_is_seen():
    np.testing.assert_allclose(apply_at_first(heads.Categorical(5)).probs, 1 / 5, atol=0.02)
    gaussian = apply_at_first(heads.Gaussian(2))
    np.testing.assert_allclose(gaussian.mean(), 0, atol=0.1)
    np.testing.assert_array_equal(gaussian.stddev(), 1)
    # Zero would also be uniform, but actions would then never come to differ by what is seen.
    assert np.std(gaussian.mean()) > 0


def test_values_have_no_feature_axis():
    values = apply(heads.VNetwork())
    assert values.shape == (BATCH, TIME)
    assert np.std(values) > 0.1


def test_the_loss_of_a_value_is_half_its_squared_error():
    output, target = map(
        jnp.asarray, np.random.default_rng(0).standard_normal((2, BATCH, TIME), np.float32)
    )
    loss = heads.VNetwork().loss(output, target)
    np.testing.assert_allclose(loss, 0.5 * (output - target) ** 2, rtol=1e-5)
    slope = jax.grad(lambda output: heads.VNetwork().loss(output, target).sum())(output)
    np.testing.assert_allclose(slope, output - target, rtol=1e-5)


@pytest.mark.parametrize("head", [heads.Categorical, heads.Gaussian])
@pytest.mark.parametrize("action_dim", [0, -1, 2.5, True, None])
def test_a_number_of_actions_that_is_none_is_refused(head, action_dim, as_a_user):
    message = f"{head.__name__}.action_dim must be an integer of at least 1, got {action_dim}"
    with pytest.raises(ValueError, match=message):
        head(action_dim=action_dim)
