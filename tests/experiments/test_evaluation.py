import numpy as np

from memorax.experiments.run.evaluation import bootstrap_interval


def test_the_interval_of_equal_values_is_a_point():
    assert bootstrap_interval(np.array([1.0, 1.0, 1.0])) == (1.0, 1.0)


def test_one_value_has_no_interval():
    assert np.isnan(bootstrap_interval(np.array([0.3]))).all()


def test_the_interval_is_that_of_all_resamples():
    # Three values can be drawn in 27 ways: the exact distribution of the mean is at hand.
    values = np.array([0.0, 0.3, 1.0])
    means = np.array(np.meshgrid(values, values, values)).reshape(3, -1).mean(axis=0)
    exact = np.quantile(means, [0.025, 0.975], method="inverted_cdf")
    np.testing.assert_allclose(bootstrap_interval(values), exact, atol=1e-12)


def test_the_interval_covers_the_mean_about_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(2.0, 1.0, (200, 30))
    covered = [low <= 2.0 <= high for low, high in map(bootstrap_interval, draws)]
    assert 0.88 < np.mean(covered) < 0.99
