"""Statistics of a few runs on a few tasks, as rliable defines them.

Scores are arrays of shape (runs, tasks): what each run, a seed, reached on each task. With several
tasks they have to be normalised, so that they mean the same on each.

Source: Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice",
arXiv 2108.13264, section 4.
"""

from collections.abc import Callable

import numpy as np
import scipy.stats
from jaxtyping import Float

Statistic = Callable[[Float[np.ndarray, "*resamples runs tasks"]], np.ndarray]


def interquartile_mean(
    scores: Float[np.ndarray, "*resamples runs tasks"],
) -> Float[np.ndarray, "*resamples"]:
    """Return the mean of the middle half of all scores, runs and tasks together.

    A quarter of the scores is left out at either end, rounded down to whole scores: of three,
    none are.
    """
    flat = scores.reshape(*scores.shape[:-2], -1)
    return np.asarray(scipy.stats.trim_mean(flat, 0.25, axis=-1))


def performance_profile(
    scores: Float[np.ndarray, "*resamples runs tasks"], thresholds: Float[np.ndarray, " thresholds"]
) -> Float[np.ndarray, "*resamples thresholds"]:
    """Return the share of scores, runs and tasks together, that is above each threshold."""
    return (scores[..., None] > thresholds).mean(axis=(-3, -2))


def probability_of_improvement(
    scores: Float[np.ndarray, "runs tasks"], others: Float[np.ndarray, "other_runs tasks"]
) -> float:
    """Return how likely a run of the first is better than one of the others, on a random task.

    ::

        mean over tasks of P(score > other) + P(score = other) / 2

    which is the Mann-Whitney U statistic of each task as a share of all pairs.
    """
    scores, others = scores[:, None], others[None]
    return float(np.mean((scores > others) + 0.5 * (scores == others)))


def stratified_bootstrap_interval(
    scores: Float[np.ndarray, "runs tasks"],
    statistic: Statistic,
    num_resamples: int = 2_000,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95 % percentile interval of a statistic, with the runs of each task redrawn.

    Each resample draws as many runs as there are, with replacement, of each task by itself; the
    tasks stay as they are.

    Args:
        scores: The scores.
        statistic: From resamples, (resamples, runs, tasks), to (resamples, ...).
        num_resamples: How many; 2,000 bring the ends to about a fiftieth of the interval.
        seed: Where the draws come from.

    Returns:
        The lower and the upper end, each (...); NaN for a single run, which says nothing about
        others.
    """
    if len(scores) < 2:
        unknown = np.full(statistic(scores[None]).shape[1:], np.nan)
        return unknown, unknown
    draws = np.random.default_rng(seed).integers(len(scores), size=(num_resamples, *scores.shape))
    resampled = statistic(np.take_along_axis(scores[None], draws, axis=1))
    low, high = np.quantile(resampled, [0.025, 0.975], axis=0)
    return np.asarray(low), np.asarray(high)


def fill_gaps(curves: Float[np.ndarray, "runs updates"]) -> Float[np.ndarray, "runs updates"]:
    """Fill updates in which no episode ended, NaN, with what the last one before them had.

    Before the first episode has ended its own return is the best guess. A run without any stays
    NaN.
    """
    filled = np.array(curves)
    for curve in filled:
        known = np.flatnonzero(~np.isnan(curve))
        if known.size:
            latest = np.searchsorted(known, np.arange(curve.size), side="right") - 1
            curve[:] = curve[known[np.maximum(latest, 0)]]
    return filled
