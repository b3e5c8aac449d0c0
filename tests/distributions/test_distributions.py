"""Every distribution against distrax, in values, gradients and draws, and closed forms."""

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from memorax import distributions

BATCH, SIZE = 3, 4
FIRST, SECOND = (2 * jax.random.normal(jax.random.key(seed), (2, BATCH, SIZE)) for seed in (0, 1))
VALUES = jax.random.normal(jax.random.key(2), (BATCH, SIZE))
CATEGORIES = jnp.array([0, 3, 1])


def epsilon_greedy(package, parameters):
    # Two of them are preferred alike.
    preferences = jnp.round(parameters[0]).at[0, 1].set(9.0).at[0, 3].set(9.0)
    return package.EpsilonGreedy(preferences, 0.3)


MAKERS = {
    "categorical": lambda package, parameters: package.Categorical(logits=parameters[0]),
    "categorical of probabilities": lambda package, parameters: package.Categorical(
        probs=jnp.exp(parameters[0])
    ),
    "epsilon-greedy": epsilon_greedy,
    "normal": lambda package, parameters: package.Normal(parameters[0], jnp.exp(parameters[1])),
    "independent": lambda package, parameters: package.Independent(
        package.Normal(parameters[0], jnp.exp(parameters[1])), reinterpreted_batch_ndims=1
    ),
}
every = pytest.mark.parametrize("name", MAKERS)


def value_of(name):
    return VALUES if name in ("normal", "independent") else CATEGORIES


@every
def test_draws_and_shapes_are_those_of_distrax(name):
    ours, theirs = (MAKERS[name](package, FIRST) for package in (distributions, distrax))
    assert (ours.batch_shape, ours.event_shape) == (theirs.batch_shape, theirs.event_shape)
    for shape in ((), 5, (2, 3)):
        for seed in (jax.random.key(7), jax.random.PRNGKey(8), 9):
            drawn, expected = (
                each.sample(seed=seed, sample_shape=shape) for each in (ours, theirs)
            )
            np.testing.assert_array_equal(drawn, expected)
            assert drawn.dtype == expected.dtype
    pairs = [each.sample_and_log_prob(seed=jax.random.key(3)) for each in (ours, theirs)]
    np.testing.assert_array_equal(pairs[0][0], pairs[1][0])
    np.testing.assert_allclose(pairs[0][1], pairs[1][1], rtol=1e-6, atol=1e-6)


@every
def test_values_and_gradients_are_those_of_distrax(name):
    def measures(package):
        def measure(first, second):
            one, other = (MAKERS[name](package, each) for each in (first, second))
            values = {
                "log_prob": one.log_prob(value_of(name)),
                "entropy": one.entropy(),
                "kl_divergence": one.kl_divergence(other),
            }
            return sum(value.sum() for value in values.values()), values

        return jax.jit(jax.grad(measure, argnums=(0, 1), has_aux=True))(FIRST, SECOND)

    ours, theirs = measures(distributions), measures(distrax)
    jax.tree.map(
        lambda got, expected: np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5),
        ours,
        theirs,
    )
    one, expected = (MAKERS[name](package, FIRST) for package in (distributions, distrax))
    np.testing.assert_array_equal(one.mode(), expected.mode())
    if name in ("normal", "independent"):
        np.testing.assert_array_equal(one.mean(), expected.mean())
        np.testing.assert_array_equal(one.stddev(), expected.stddev())
    else:
        assert one.num_categories == expected.num_categories
        np.testing.assert_allclose(one.probs, expected.probs, rtol=1e-5)


@every
def test_a_distribution_is_a_pytree_under_jit_and_vmap(name):
    make = jax.jit(lambda parameters: MAKERS[name](distributions, parameters))
    ours = make(FIRST)
    assert type(ours) is type(MAKERS[name](distributions, FIRST))
    log_prob = jax.jit(lambda one: one.log_prob(value_of(name)))(ours)
    copies = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), ours)
    mapped = jax.vmap(lambda one: one.log_prob(value_of(name)))(copies)
    np.testing.assert_allclose(mapped[1], log_prob, rtol=1e-6)
    (path, _), *_ = jax.tree_util.tree_leaves_with_path(ours)
    assert jax.tree_util.keystr(path, simple=True, separator="/").split("/")[-1] in (
        "logits",
        "loc",
    )


def test_closed_forms():
    logits = np.asarray(FIRST[0], np.float64)
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    categorical = distributions.Categorical(logits=FIRST[0])
    np.testing.assert_allclose(categorical.probs, probs, rtol=1e-5)
    np.testing.assert_allclose(
        categorical.entropy(), scipy.stats.entropy(probs, axis=-1), rtol=1e-5
    )
    other = distributions.Categorical(logits=SECOND[0])
    np.testing.assert_allclose(
        categorical.kl_divergence(other),
        scipy.stats.entropy(probs, np.asarray(other.probs, np.float64), axis=-1),
        rtol=1e-4,
    )
    normal = distributions.Normal(FIRST[0], jnp.exp(FIRST[1]))
    oracle = scipy.stats.norm(np.asarray(FIRST[0]), np.exp(np.asarray(FIRST[1], np.float64)))
    np.testing.assert_allclose(normal.log_prob(VALUES), oracle.logpdf(VALUES), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(normal.entropy(), oracle.entropy(), rtol=1e-5, atol=1e-6)
    greedy = distributions.EpsilonGreedy(jnp.array([1.0, 3.0, 2.0, 3.0]), 0.2)
    np.testing.assert_allclose(greedy.probs, [0.05, 0.45, 0.05, 0.45], rtol=1e-5)


def test_an_impossible_category_has_no_probability_and_finite_gradients():
    logits = jnp.array([0.0, -jnp.inf, 1.0])

    def measure(logits):
        one = distributions.Categorical(logits=logits)
        return one.log_prob(jnp.array(2)) + one.entropy() + one.kl_divergence(one)

    assert np.isfinite(measure(logits))
    assert np.isfinite(jax.grad(measure)(logits)).all()
    one = distributions.Categorical(logits=logits)
    assert one.log_prob(jnp.array(1)) == -jnp.inf
    np.testing.assert_array_equal(one.log_prob(jnp.array([-1, 3])), -jnp.inf)
    assert 1 not in one.sample(seed=0, sample_shape=1000)


def test_draws_from_what_is_not_a_distribution_are_no_category():
    one = distributions.Categorical(logits=jnp.array([[0.0, jnp.nan], [0.0, 1.0]]))
    drawn = one.sample(seed=jax.random.key(0), sample_shape=20)
    assert (drawn[:, 0] == -1).all()
    assert (drawn[:, 1] >= 0).all()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (distributions.Categorical, "either logits or probs, got none"),
        (lambda: distributions.Categorical(VALUES, VALUES), "either logits or probs, got both"),
        (
            lambda: distributions.Independent(distributions.Normal(VALUES, VALUES), 3),
            "reinterpreted_batch_ndims must be an integer from 0 to 2, got 3",
        ),
        (
            lambda: distributions.Categorical(VALUES).kl_divergence(
                distributions.Normal(VALUES, VALUES)
            ),
            "other must be of Categorical, got Normal",
        ),
        (
            lambda: distributions.Categorical(VALUES).kl_divergence(
                distributions.Categorical(VALUES[:, 1:])
            ),
            "as many categories, got 4 and 3",
        ),
    ],
)
def test_what_makes_no_distribution_is_refused(make, words, as_a_user):
    with pytest.raises(ValueError, match=words):
        make()


def test_what_has_no_closed_form_says_so():
    one = distributions.SquashedNormal(VALUES, jnp.exp(VALUES), jnp.zeros(SIZE), jnp.ones(SIZE))
    with pytest.raises(NotImplementedError, match="SquashedNormal has no entropy"):
        one.entropy()
