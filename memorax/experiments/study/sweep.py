"""Searching options: every value of them that is tried is a trial."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from memorax.experiments.loggers.registry import check_installed
from memorax.experiments.run.command import train_command
from memorax.experiments.run.folder import RunFolder
from memorax.experiments.run.plotting import count_seeds
from memorax.experiments.study.folder import Page, Proposed, Results, StudyFolder
from memorax.experiments.study.page import preformatted, section
from memorax.experiments.study.plots import Reached, plot_learning_curves, plot_searched_values
from memorax.experiments.study.proposals import propose
from memorax.experiments.study.results import Row, make_rows
from memorax.experiments.study.search_space import RealRange
from memorax.experiments.study.sweep_config import (
    SweepConfig,
    check_method_installed,
    from_json,
    to_json,
)
from memorax.experiments.study.sweep_table import best_first, make_table
from memorax.experiments.study.trial import Trial, text

MOST_CURVES = 8
"""Trials whose learning curves are drawn: the best."""


class SweepFolder(StudyFolder):
    """A sweep's folder: its configuration, ``trials/NNN/`` and its results.

    Args:
        path: The folder.
    """

    kind = "sweep folder"
    field = "search"
    study = "sweep"
    resume = "memorax sweep --sweep-folder"
    plots: ClassVar = {
        "searched_values.png": "Return of each finished trial against the values it was given, "
        "with 95 % bootstrap intervals over seeds.",
        "learning_curves.png": "Return of the episodes that ended while training, of the best "
        f"trials, {MOST_CURVES} at most: interquartile mean over seeds, with 95 % bootstrap "
        "intervals.",
    }
    to_json = staticmethod(to_json)
    from_json = staticmethod(from_json)

    @staticmethod
    def check_installed(config: SweepConfig[Any]) -> None:
        """Check that the loggers, and what proposes trials, are installed."""
        check_method_installed(config)
        check_installed(config.train.loggers)

    def propose(self, config: SweepConfig[Any], ended: Sequence[Trial]) -> Proposed:
        """Return the next trials, whose folders need not be there, given all before them.

        Raises:
            ValueError: If there is nothing to search.
        """
        if not config.search:
            raise ValueError(
                "search must name what to try, such as --search learning-rate=log:1e-4:1e-2"
            )
        proposals = propose(config, ended)
        trials = [
            Trial(
                *(number, values, config.train, RunFolder(self.path / "trials" / f"{number:03}")),
                config.train.task,
            )
            for number, values in enumerate(proposals.values, len(ended))
        ]

        def should_stop(trial, reports):
            endings = [other.ending for other in (*ended, *trials)]
            finished = [
                ending.reports for ending in endings if ending and ending.outcome == "finished"
            ]
            return proposals.should_stop(trial.number - len(ended), reports, finished)

        return Proposed(trials, should_stop)

    def results(self, config: SweepConfig[Any], trials: Sequence[Trial]) -> Results:
        """Draw the plots of trials, all of which have ended, and return their results."""
        rows = best_first(make_rows(trials))
        by_name = {trial.name: trial for trial in trials}
        finished = [row for row in rows if row.outcome == "finished"]
        best = train_command(by_name[finished[0].trial].config) if finished else None
        if finished:
            curves = {}
            for row in finished[:MOST_CURVES]:
                trial = by_name[row.trial]
                curves[trial.name] = trial.result.steps, trial.result.curves
            title = f"{config.train.algorithm_name} on {config.train.task}"
            plot_learning_curves(self.path / "learning_curves.png", {title: curves})
            plot_searched_values(
                self.path / "searched_values.png",
                f"{config.train.torso}, {title}: {len(finished)} trials, "
                f"{count_seeds(config.train.num_seeds)} each",
                {flag: [_reached(row, flag) for row in finished] for flag in config.space},
                logarithmic=[
                    flag
                    for flag, domain in config.space.items()
                    if isinstance(domain, RealRange) and domain.logarithmic
                ],
            )
        others = {"search": config.search, "method": config.method, "best": best}
        remark = f"the best again: {best}" if best else ""
        return Results(rows, make_table(config, rows), others, remark)

    def page(self, config: SweepConfig[Any], found: Mapping[str, Any]) -> Page:
        """Return the page of the contents of ``results.json``."""
        train, best = config.train, found["best"]
        # Results of earlier versions have neither.
        same = {"task": train.task, "model": train.torso}
        rows = [Row(**same | row) for row in found["rows"]]
        finished = sum(row.outcome == "finished" for row in rows)
        return Page(
            f"{', '.join(config.space)} of {train.algorithm_name} on {train.task}",
            f"{len(rows)} trials by {config.method} search, of which {finished} finished, "
            f"with {train.num_seeds} seed(s) each, {train.total_steps:,} environment steps a seed.",
            [
                *([section("The best again", preformatted(best))] if best else []),
                section("Results", make_table(config, rows).html()),
            ],
        )


def _reached(row: Row, flag: str) -> Reached:
    value = row.values[flag]
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return Reached(value if numeric else text(value), row.interquartile_mean, row.low, row.high)
