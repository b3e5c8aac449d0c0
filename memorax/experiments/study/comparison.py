"""Comparing models: every model on every task is a trial."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from memorax.experiments.loggers.registry import check_installed
from memorax.experiments.run.folder import RunFolder
from memorax.experiments.study.comparison_config import CompareConfig, from_json, to_json
from memorax.experiments.study.comparison_table import (
    make_table,
    rows_over_tasks,
    scores_over_tasks,
)
from memorax.experiments.study.folder import Page, Proposed, Results, StudyFolder
from memorax.experiments.study.page import picture, section
from memorax.experiments.study.plots import plot_learning_curves, plot_performance_profiles
from memorax.experiments.study.results import Row, make_rows
from memorax.experiments.study.run_result import RunResult
from memorax.experiments.study.table import StudyTable
from memorax.experiments.study.trial import Trial

INFLUENCE = (
    "how strongly the input of each step of an episode moves the memory's output at each later "
    "step (norm of the gradient, divided by its largest), and its mean by steps back."
)
"""The caption of what a memory keeps."""


class ComparisonFolder(StudyFolder):
    """A comparison's folder: its configuration, ``runs/TASK/MODEL/`` and its results.

    Args:
        path: The folder.
    """

    kind = "comparison folder"
    field = "environments"
    study = "comparison"
    resume = "memorax compare --comparison-folder"
    plots: ClassVar = {
        "learning_curves.png": "Return of the episodes that ended while training: interquartile "
        "mean over seeds, with 95 % bootstrap intervals.",
        "performance_profiles.png": "Performance profiles: the share of runs that reached more "
        "than each return, with 95 % bootstrap intervals.",
    }
    to_json = staticmethod(to_json)
    from_json = staticmethod(from_json)

    @staticmethod
    def check_installed(config: CompareConfig) -> None:
        """Check that the loggers are installed."""
        check_installed(config.loggers)

    def propose(self, config: CompareConfig, ended: Sequence[Trial]) -> Proposed:
        """Return all trials: none depends on how another ends."""
        return Proposed(
            [
                Trial(number, {}, run.config, RunFolder(self.path / run.path), run.task, run.model)
                for number, run in enumerate(config.runs)
            ]
        )

    def results(self, config: CompareConfig, trials: Sequence[Trial]) -> Results:
        """Draw the plots of trials, all of which have ended, and return their results."""
        endings = {trial.title: ending for trial in trials if (ending := trial.ending)}
        diverged = {
            title: ending.why for title, ending in endings.items() if ending.outcome != "finished"
        }
        finished = [trial for trial in trials if trial.title not in diverged]
        results: dict[str, dict[str, RunResult]] = {trial.task: {} for trial in trials}
        for trial in finished:
            results[trial.task][trial.label] = trial.result
        rows = make_rows(finished, config.models[0]) + rows_over_tasks(config, results)
        plot_learning_curves(
            self.path / "learning_curves.png",
            {
                task: {model: (result.steps, result.curves) for model, result in by_model.items()}
                for task, by_model in results.items()
            },
        )
        panels = {
            f"return on {task}": {
                model: result.returns[:, None] for model, result in by_model.items()
            }
            for task, by_model in results.items()
        }
        scores, _ = scores_over_tasks(config, results)
        if scores:
            panels["score on all tasks"] = scores
        plot_performance_profiles(self.path / "performance_profiles.png", panels)
        others = {"config": asdict(config), "diverged": diverged}
        return Results(rows, make_table(config, rows, diverged), others)

    def page(self, config: CompareConfig, found: Mapping[str, Any]) -> Page:
        """Return the page of the contents of ``results.json``."""
        rows = [Row(**row) for row in found["rows"]]
        seeds = {
            task: [
                [row.model, ", ".join(f"{value:.3f}" for value in row.seed_values)]
                for row in same_task
            ]
            for task, same_task in itertools.groupby(rows, lambda row: row.task)
        }
        every_seed = StudyTable(["model", "return of each seed"], seeds, [])
        return Page(
            ", ".join(config.models),
            f"{len(config.models)} model(s) on {len(config.environments)} task(s) with "
            f"{config.num_seeds} seed(s) each, {config.total_steps:,} environment steps a seed, "
            f"{config.features} features.",
            [
                section("Results", make_table(config, rows, found["diverged"]).html()),
                section("Every seed", every_seed.html()),
                *self._influences(config),
            ],
        )

    def finished_trials(self, config: CompareConfig) -> list[Trial]:
        """Return the trials that have been evaluated."""
        trials = self.propose(config, []).trials
        return [trial for trial in trials if (trial.folder.path / "evaluation.json").is_file()]

    def _influences(self, config: CompareConfig) -> list[str]:
        """Return a section with the pictures of what each memory keeps, if there are any."""
        pictures = [
            picture(influence_path(trial), f"{trial.title}: {INFLUENCE}")
            for trial in self.finished_trials(config)
            if influence_path(trial).is_file()
        ]
        return [section("What each memory keeps", *pictures)] if pictures else []


def influence_path(trial: Trial) -> Path:
    """Return where the picture of what a trial's memory keeps is, if there is one."""
    return trial.folder.path / "influence.png"
