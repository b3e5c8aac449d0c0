import itertools

import numpy as np
import pytest

from memorax.experiments.study.statistics import (
    fill_gaps,
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
    stratified_bootstrap_interval,
)

SCORES = np.random.default_rng(0).normal(size=(6, 4))


def test_the_interquartile_mean_leaves_a_quarter_out_at_either_end():
    assert interquartile_mean(np.array([[1.0, 100.0], [2.0, -100.0]])) == 1.5
    assert interquartile_mean(np.array([[1.0], [2.0], [6.0]])) == 3
    ordered = np.sort(SCORES, axis=None)
    np.testing.assert_allclose(interquartile_mean(SCORES), ordered[6:18].mean())
    many = np.stack([SCORES, 2 * SCORES])
    np.testing.assert_allclose(
        interquartile_mean(many), [interquartile_mean(SCORES), 2 * interquartile_mean(SCORES)]
    )


def test_a_profile_is_the_share_of_scores_above_each_threshold():
    thresholds = np.array([-10.0, 0.0, 0.5, 10.0])
    shares = [sum(score > threshold for score in SCORES.flat) / 24 for threshold in thresholds]
    np.testing.assert_allclose(performance_profile(SCORES, thresholds), shares)


def test_the_probability_of_improvement_is_over_all_pairs_of_a_task():
    others = np.round(np.random.default_rng(1).normal(size=(3, 4)), 1)
    scores = np.round(SCORES, 1)
    wins = []
    for task in range(4):
        pairs = list(itertools.product(scores[:, task], others[:, task]))
        wins.append(np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs]))
    assert probability_of_improvement(scores, others) == pytest.approx(np.mean(wins))
    assert probability_of_improvement(scores, scores) == 0.5


def test_the_interval_redraws_runs_within_each_task():
    def mean(scores):
        return scores.mean(axis=(-2, -1))

    low, high = stratified_bootstrap_interval(SCORES, mean, num_resamples=20_000)
    # The mean's deviation over resamples of each task by itself, as the normal interval has it.
    deviation = np.sqrt((SCORES.std(axis=0) ** 2 / 6).mean() / 4)
    np.testing.assert_allclose(
        [low, high], SCORES.mean() + 1.96 * deviation * np.array([-1, 1]), atol=0.03
    )
    # Tasks apart: where runs of a task are alike nothing is unsure, however tasks differ.
    alike = np.array([[1.0, 50.0]] * 3)
    assert stratified_bootstrap_interval(alike, mean) == (25.5, 25.5)
    assert np.isnan(stratified_bootstrap_interval(SCORES[:1], mean)).all()


def test_updates_without_an_episode_have_what_the_last_one_had():
    gaps = np.array([[np.nan, 1.0, np.nan, 3.0, np.nan], [np.nan] * 5])
    np.testing.assert_array_equal(fill_gaps(gaps), [[1, 1, 1, 3, 3], [np.nan] * 5])
