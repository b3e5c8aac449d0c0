"""When to stop a trial early."""

from collections.abc import Sequence

import numpy as np

Reports = Sequence[float | None]
"""A trial's mean return in each part of training that it completed, None if unknown."""

FEWEST_PARTS = 3
"""Parts of training before which no trial is stopped."""
FEWEST_TRIALS = 3
"""Finished trials before which no trial is stopped."""


def below_median(reports: Reports, finished: Sequence[Reports]) -> bool:
    """Return whether a trial's best return so far is below the median of finished trials' means.

    Their means are those up to the same part of training: averages up to that point.

    Args:
        reports: The trial's.
        finished: Those of finished trials.

    Source: Golovin et al. 2017, "Google Vizier: a service for black-box optimization", section
    3.2.2, the median stopping rule.
    """
    known = _known(reports)
    if len(reports) < FEWEST_PARTS or len(finished) < FEWEST_TRIALS or not known:
        return False
    means = [np.mean(part) for other in finished if (part := _known(other[: len(reports)]))]
    return bool(means) and max(known) < float(np.median(means))


def _known(reports: Reports) -> list[float]:
    return [report for report in reports if report is not None]
