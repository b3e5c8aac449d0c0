"""Comparing models: one run after the other, then tables and plots."""

import itertools
from dataclasses import asdict
from pathlib import Path

import jax
from rich.console import Console
from rich.text import Text

from memorax.experiments.files.lock import lock
from memorax.experiments.loggers.registry import check_installed
from memorax.experiments.run import training
from memorax.experiments.run.devices import Devices, make_mesh
from memorax.experiments.run.failures import DivergedError
from memorax.experiments.run.training import make_agents
from memorax.experiments.study.comparison_config import (
    CompareConfig,
    ComparisonRun,
    from_json,
    to_json,
)
from memorax.experiments.study.comparison_results import (
    Row,
    make_rows,
    make_table,
    scores_over_tasks,
)
from memorax.experiments.study.folder import StudyFolder
from memorax.experiments.study.page import picture, reading_results, section, write_page
from memorax.experiments.study.plots import plot_learning_curves, plot_performance_profiles
from memorax.experiments.study.run_result import read_result
from memorax.experiments.study.table import StudyTable

PLOTS = {
    "learning_curves.png": "Return of the episodes that ended while training: interquartile mean "
    "over seeds, with 95 % bootstrap intervals.",
    "performance_profiles.png": "Performance profiles: the share of runs that reached more than "
    "each return, with 95 % bootstrap intervals.",
}
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
    to_json = staticmethod(to_json)
    from_json = staticmethod(from_json)

    def finished(self, run: ComparisonRun) -> bool:
        """Return whether a run has finished or diverged."""
        path = self.path / run.path
        return any((path / name).is_file() for name in ("evaluation.json", "diverged.txt"))

    def finished_runs(self) -> list[ComparisonRun]:
        """Return the runs that have been evaluated."""
        runs = self.config().runs
        return [run for run in runs if (self.path / run.path / "evaluation.json").is_file()]

    def influence_path(self, run: ComparisonRun) -> Path:
        """Return where the picture of what a run's memory keeps is, if there is one."""
        return self.path / run.path / "influence.png"


def check_runs(config: CompareConfig) -> None:
    """Check that every run can be made.

    Raises:
        ValueError: If parts do not fit each other; nothing is compiled or written by then.
        ModuleNotFoundError: If a logger or a task is not installed.
    """
    check_installed(config.loggers)
    for run in config.runs:
        make_agents(run.config)


def compare(
    config: CompareConfig, devices: Devices, folder: ComparisonFolder, console: Console
) -> list[Row] | None:
    """Train and evaluate every model on every task, or resume where that stopped.

    Args:
        config: The comparison's configuration.
        devices: The devices to train on.
        folder: Its folder.
        console: Where to show progress.

    Returns:
        The table's rows, or None if the comparison was interrupted; checkpoints are kept in
        either case.
    """
    runs = list(config.runs)
    for number, run in enumerate(runs, 1):
        title = Text(f"run {number} of {len(runs)}:", style="bold")
        name = f"{run.model} on {run.task}"
        if folder.finished(run):
            console.print(title, f"{name} has finished before")
            continue
        console.print(title, name)
        run_folder = folder.claim_run(run.path, run.config)
        try:
            with lock(run_folder.path, run_folder.kind):
                agents = make_agents(run.config)
                mesh = make_mesh(devices, run.config, agents)
                evaluations = training.run(run.config, agents, mesh, run_folder, console)
            if evaluations is None:
                return None
        except DivergedError as error:
            # A diverged run is left out; the others are still valid.
            console.print(f"left out: {error}", soft_wrap=True)
            run_folder.write("diverged.txt", f"{error}\n")
        # Every run compiles programs of its own, and Linux lets a process map only so many.
        jax.clear_caches()
    return _finish(config, folder, console)


def _finish(config: CompareConfig, folder: ComparisonFolder, console: Console) -> list[Row]:
    results, diverged = {}, {}
    for task, runs in itertools.groupby(config.runs, lambda run: run.task):
        results[task] = {}
        for run in runs:
            reason = folder.path / run.path / "diverged.txt"
            if reason.is_file():
                diverged[f"{run.model} on {task}"] = reason.read_text(encoding="utf-8").strip()
            else:
                results[task][run.model] = read_result(folder.claim_run(run.path, run.config))
    rows = make_rows(config, results)
    plot_learning_curves(
        folder.path / "learning_curves.png",
        {
            task: {model: (result.steps, result.curves) for model, result in by_model.items()}
            for task, by_model in results.items()
        },
    )
    panels = {
        f"return on {task}": {model: result.returns[:, None] for model, result in by_model.items()}
        for task, by_model in results.items()
    }
    scores, _ = scores_over_tasks(config, results)
    if scores:
        panels["score on all tasks"] = scores
    plot_performance_profiles(folder.path / "performance_profiles.png", panels)
    table = make_table(config, rows, diverged)
    folder.finish(table, rows, {"config": asdict(config), "diverged": diverged}, console)
    return rows


def write_report(folder: ComparisonFolder) -> Path:
    """Turn a finished comparison into ``report.html``, a single page with its plots inside.

    Raises:
        ValueError: If the comparison has not finished, or its results cannot be read.
    """
    config = folder.config()
    with reading_results(folder, folder.resume) as found:
        rows = [Row(**row) for row in found["rows"]]
        table = make_table(config, rows, found["diverged"])
        seeds = {
            task: [
                [row.model, ", ".join(f"{value:.3f}" for value in row.seed_values)]
                for row in same_task
            ]
            for task, same_task in itertools.groupby(rows, lambda row: row.task)
        }
    every_seed = StudyTable(["model", "return of each seed"], seeds, [])
    return write_page(
        folder,
        title=", ".join(config.models),
        summary=f"{len(config.models)} model(s) on {len(config.environments)} task(s) with "
        f"{config.num_seeds} seed(s) each, {config.total_steps:,} environment steps a seed, "
        f"{config.features} features.",
        sections=[
            section("Results", table.html()),
            section("Every seed", every_seed.html()),
            *_influences(folder),
        ],
        plots=PLOTS,
    )


def _influences(folder: ComparisonFolder) -> list[str]:
    """Return a section with the pictures of what each memory keeps, if there are any."""
    pictures = [
        picture(folder.influence_path(run), f"{run.model} on {run.task}: {INFLUENCE}")
        for run in folder.finished_runs()
        if folder.influence_path(run).is_file()
    ]
    return [section("What each memory keeps", *pictures)] if pictures else []
