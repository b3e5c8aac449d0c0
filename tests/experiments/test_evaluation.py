import numpy as np
import pytest

from memorax.experiments.run.best_return import best_mean_return
from memorax.experiments.run.evaluation import bootstrap_interval


@pytest.mark.parametrize(
    ("returns", "num_episodes", "best"),
    [
        # Of an update with 100 episodes or more, the mean is that of the update.
        ([0.0, 3.0, 1.0], [200, 100, 500], 3.0),
        # The best update has a single episode: it counts among the 99 of the update before.
        ([1.0, 9.0, 0.0], [99, 1, 100], (99 * 1.0 + 9.0) / 100),
        # Whole updates make up 100 episodes, as few as possible.
        ([5.0, 2.0, 1.0], [60, 60, 60], (60 * 5.0 + 60 * 2.0) / 120),
        # None ended in some updates.
        ([np.nan, 2.0, np.nan, 1.0], [0, 100, 0, 100], 2.0),
        # A run of fewer episodes has one mean.
        ([8.0, 2.0], [1, 2], 4.0),
    ],
)
def test_the_best_mean_return_is_over_at_least_100_episodes(returns, num_episodes, best):
    assert best_mean_return(np.array(returns), np.array(num_episodes)) == pytest.approx(best)


def test_without_an_episode_there_is_no_best_mean_return():
    assert np.isnan(best_mean_return(np.array([np.nan]), np.array([0])))
    assert np.isnan(best_mean_return(np.array([]), np.array([], int)))


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
