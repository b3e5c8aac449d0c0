"""Comparing models: one run after the other, and what they come to."""

import itertools
from pathlib import Path

import jax
from rich.console import Console
from rich.text import Text

from memorax.experiments.files.folder import Folder
from memorax.experiments.files.lock import lock
from memorax.experiments.loggers.registry import check_installed
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.config import to_json as run_to_json
from memorax.experiments.run.console import shell_path
from memorax.experiments.run.devices import Devices, make_mesh
from memorax.experiments.run.folder import RunFolder
from memorax.experiments.run.recorder import DivergedError
from memorax.experiments.run.training import make_agents, run
from memorax.experiments.study.comparison_config import (
    Cell,
    CompareConfig,
    differences,
    from_json,
    to_json,
)
from memorax.experiments.study.comparison_results import (
    Row,
    make_rows,
    read_outcome,
    scores_over_tasks,
    table,
    to_csv,
    to_markdown,
)
from memorax.experiments.study.comparison_results import to_json as results_to_json
from memorax.experiments.study.plots import plot_learning_curves, plot_performance_profiles


class ComparisonFolder(Folder):
    """Where a comparison keeps its configuration, its runs and its results.

    ``config.json``, ``runs/TASK/MODEL/`` (a run folder each), and when all runs have finished
    ``results.json``, ``table.csv``, ``table.md``, ``learning_curves.png`` and
    ``performance_profiles.png``.

    Args:
        path: The folder.
    """

    kind = "comparison folder"
    field = "environments"

    @classmethod
    def create(cls, path: Path | None, config: CompareConfig) -> "ComparisonFolder":
        """Make a new folder; without a path, ``comparisons/TIME``.

        Raises:
            ValueError: If the path exists: a comparison is never overwritten.
        """
        if path is not None:
            return cls.make(path, to_json(config))
        return cls.make_named_by_time("comparisons", to_json(config))

    def config(self) -> CompareConfig:
        """Return the comparison's configuration."""
        return from_json(self.path / "config.json")

    def run_folder(self, cell: Cell) -> RunFolder:
        """Return the folder of a run, a new one if the run was never begun.

        Raises:
            ValueError: If the run there has another configuration.
        """
        return claim_run_folder(self.path / cell.path, cell.config, "comparison")

    def finished(self, cell: Cell) -> bool:
        """Return whether a run has come to its end, good or bad."""
        path = self.path / cell.path
        return any((path / name).is_file() for name in ("evaluation.json", "diverged.txt"))


def claim_run_folder(path: Path, config: TrainConfig, whole: str) -> RunFolder:
    """Return the folder of a run that is a part of something, a new one if it was never begun.

    Args:
        path: Where it lies.
        config: The run's configuration.
        whole: What the run is a part of.

    Raises:
        ValueError: If the run there has another configuration.
    """
    if not (path / "config.json").is_file():
        # It may be there without: whoever made it may have been killed at once.
        path.mkdir(parents=True, exist_ok=True)
        RunFolder(path).write("config.json", run_to_json(config))
    folder = RunFolder.open(path)
    changed = next(differences(folder.config(), config), None)
    if changed:
        raise ValueError(f"{path / 'config.json'} is of another {whole}: {changed}")
    return folder


def check_cells(config: CompareConfig) -> None:
    """Check that every run can be made.

    Raises:
        ValueError: If parts do not fit each other; nothing is compiled or written by then.
        ModuleNotFoundError: If a logger or a task is not installed.
    """
    check_installed(config.loggers)
    for cell in config.cells:
        make_agents(cell.config)


def compare(
    config: CompareConfig, devices: Devices, folder: ComparisonFolder, console: Console
) -> list[Row] | None:
    """Train and evaluate every model on every task, or go on where that stopped.

    Args:
        config: The comparison's configuration.
        devices: What to train on.
        folder: Its folder.
        console: Where to show how it goes.

    Returns:
        The table's rows, or None if the comparison was interrupted; what was reached is kept
        either way.
    """
    cells = list(config.cells)
    for number, cell in enumerate(cells, 1):
        title = Text(f"run {number} of {len(cells)}:", style="bold")
        name = f"{cell.model} on {cell.task}"
        if folder.finished(cell):
            console.print(title, f"{name} has finished before")
            continue
        console.print(title, name)
        run_folder = folder.run_folder(cell)
        try:
            with lock(run_folder.path, run_folder.kind):
                agents = make_agents(cell.config)
                mesh = make_mesh(devices, cell.config, agents)
                evaluations = run(cell.config, agents, mesh, run_folder, console)
            if evaluations is None:
                return None
        except DivergedError as error:
            # The other runs are worth as much as ever.
            console.print(f"left out: {error}", soft_wrap=True)
            run_folder.write("diverged.txt", f"{error}\n")
        # Every run compiles programs of its own, and Linux lets a process map only so many.
        jax.clear_caches()
    return _finish(config, folder, console)


def _finish(config: CompareConfig, folder: ComparisonFolder, console: Console) -> list[Row]:
    outcomes, diverged = {}, {}
    for task, cells in itertools.groupby(config.cells, lambda cell: cell.task):
        outcomes[task] = {}
        for cell in cells:
            reason = folder.path / cell.path / "diverged.txt"
            if reason.is_file():
                diverged[f"{cell.model} on {task}"] = reason.read_text(encoding="utf-8").strip()
            else:
                outcomes[task][cell.model] = read_outcome(folder.run_folder(cell))
    rows = make_rows(config, outcomes)
    plot_learning_curves(
        folder.path / "learning_curves.png",
        {
            task: {model: (outcome.steps, outcome.curves) for model, outcome in by_model.items()}
            for task, by_model in outcomes.items()
        },
    )
    panels = {
        f"return on {task}": {
            model: outcome.returns[:, None] for model, outcome in by_model.items()
        }
        for task, by_model in outcomes.items()
    }
    scores, _ = scores_over_tasks(config, outcomes)
    if scores:
        panels["score on all tasks"] = scores
    plot_performance_profiles(folder.path / "performance_profiles.png", panels)
    folder.write("table.csv", to_csv(rows))
    folder.write("table.md", to_markdown(config, rows, diverged))
    folder.write("results.json", results_to_json(config, rows, diverged))
    console.print(table(config, rows, diverged))
    report = f"memorax report {shell_path(folder.path)}"
    console.print(f"results: {folder.path}; as one page: {report}", soft_wrap=True)
    return rows
