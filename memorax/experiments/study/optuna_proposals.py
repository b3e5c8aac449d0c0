"""Trials that Optuna proposes."""

import warnings
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState

from memorax.experiments.study.pruning import FEWEST_PARTS, FEWEST_TRIALS, Reports
from memorax.experiments.study.search_space import Choices, Domain, RealRange, Values
from memorax.experiments.study.sweep_config import SweepConfig
from memorax.experiments.study.trial import Trial

_STATES = {
    "pruned": TrialState.PRUNED,
    "diverged": TrialState.FAIL,
    "refused": TrialState.FAIL,
}


class OptunaProposals:
    """Trials by the tree-structured Parzen estimator, and when its pruners stop them.

    The study is built again from the previous trials.

    Args:
        config: The sweep's configuration.
        ended: All trials before.
        count: How many to propose.
    """

    def __init__(self, config: SweepConfig[Any], ended: Sequence[Trial], count: int):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        space = config.space
        distributions = {flag: _distribution(domain) for flag, domain in space.items()}
        with warnings.catch_warnings():
            # Trials that run beside each other should differ, which Optuna calls an experiment.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                seed=(config.train.seed + len(ended)) % 2**32, constant_liar=True
            )
        study = optuna.create_study(
            direction="maximize", sampler=sampler, pruner=_pruner(config.prune)
        )
        for trial in ended:
            _replay(study, trial, space, distributions)
        self._asked = [study.ask(distributions) for _ in range(count)]
        self._reported = [0] * count
        self.values = [
            {flag: _value(space[flag], drawn) for flag, drawn in trial.params.items()}
            for trial in self._asked
        ]

    def should_stop(self, index: int, reports: Reports, finished: Sequence[Reports]) -> bool:
        """Return whether to stop a trial early."""
        trial = self._asked[index]
        for part in range(self._reported[index], len(reports)):
            report = reports[part]
            if report is not None:
                trial.report(report, part + 1)
        self._reported[index] = len(reports)
        return bool(trial.should_prune())


def _pruner(prune: str | None) -> optuna.pruners.BasePruner:
    match prune:
        case "median":
            return optuna.pruners.MedianPruner(FEWEST_TRIALS, n_warmup_steps=FEWEST_PARTS)
        case "halving":
            return optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
    return optuna.pruners.NopPruner()


def _distribution(domain: Domain) -> BaseDistribution:
    match domain:
        case Choices(values):
            # By their places: Optuna keeps few kinds of values.
            return CategoricalDistribution(range(len(values)))
        case RealRange(low, high, logarithmic):
            return FloatDistribution(low, high, log=logarithmic)
    return IntDistribution(domain.low, domain.high)


def _value(domain: Domain, drawn: Any) -> Any:
    return domain.values[drawn] if isinstance(domain, Choices) else drawn


def _params(space: dict[str, Domain], values: Values) -> dict[str, Any]:
    return {
        flag: domain.values.index(values[flag]) if isinstance(domain, Choices) else values[flag]
        for flag, domain in space.items()
    }


def _replay(study: optuna.Study, trial: Trial, space, distributions) -> None:
    """Let a study see a trial that has ended, step by step, as its pruner has to."""
    ending = trial.ending
    if ending is None:
        raise ValueError(f"{trial.name} has not ended")
    study.enqueue_trial(_params(space, trial.values))
    asked = study.ask(distributions)
    for part, report in enumerate(ending.reports, 1):
        if report is not None:
            asked.report(report, part)
            asked.should_prune()
    if ending.outcome == "finished":
        study.tell(asked, trial.score)
    else:
        study.tell(asked, state=_STATES[ending.outcome])
