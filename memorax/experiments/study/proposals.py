"""Which trials a sweep makes.

What is proposed depends on nothing but the configuration and how the trials before have ended, so
that an interrupted sweep resumes with the trials that it would have made.
"""

import itertools
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from memorax.experiments.study.pruning import Reports, below_median
from memorax.experiments.study.sweep_config import SweepConfig, grid_axes
from memorax.experiments.study.trial import Trial


@runtime_checkable
class Proposals(Protocol):
    """Some trials that are made without waiting for each other."""

    values: list[dict[str, Any]]
    """The value of each option that is searched, for each trial."""

    def should_stop(self, index: int, reports: Reports, finished: Sequence[Reports]) -> bool:
        """Return whether to stop a trial early.

        Args:
            index: Which of the proposals.
            reports: Its mean return in each part of training so far.
            finished: The reports of all trials that have finished by now.
        """
        ...


def propose(config: SweepConfig[Any], ended: Sequence[Trial]) -> Proposals:
    """Return the next trials.

    Args:
        config: The sweep's configuration.
        ended: All trials before them.
    """
    first, last = len(ended), config.trials
    if config.method == "optuna":
        # Not at the top: it is an extra.
        from memorax.experiments.study.optuna_proposals import OptunaProposals  # noqa: PLC0415

        return OptunaProposals(config, ended, min(config.trials_at_once, last - first))
    return IndependentProposals(config, range(first, last))


class IndependentProposals:
    """Trials of a grid, or drawn at random, each from the sweep's seed and its own number.

    Args:
        config: The sweep's configuration.
        numbers: The numbers of the trials.
    """

    def __init__(self, config: SweepConfig[Any], numbers: range):
        self._prune = config.prune is not None
        if config.method == "grid":
            self.values = list(itertools.islice(_grid(config), numbers.start, numbers.stop))
        else:
            self.values = [_draw(config, number) for number in numbers]

    def should_stop(self, index: int, reports: Reports, finished: Sequence[Reports]) -> bool:
        """Return whether to stop a trial early."""
        return self._prune and below_median(reports, finished)


def _grid(config):
    space = config.space
    for combination in itertools.product(*grid_axes(space)):
        yield dict(zip(space, combination, strict=True))


def _draw(config, number):
    generator = np.random.default_rng([config.train.seed, number])
    return {flag: domain.draw(generator) for flag, domain in config.space.items()}
