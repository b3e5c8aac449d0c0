"""A comparison as one page, which needs nothing but a browser."""

import itertools
from pathlib import Path

from memorax.experiments.study.comparison import ComparisonFolder
from memorax.experiments.study.comparison_config import CompareConfig
from memorax.experiments.study.comparison_results import Row, formatted, header, notes
from memorax.experiments.study.page import (
    folded,
    page,
    picture,
    points,
    reading_results,
    rows,
    section,
    table,
)

PICTURES = {
    "learning_curves.png": "Return of the episodes that ended while training: interquartile mean "
    "over seeds, with 95 % bootstrap intervals.",
    "performance_profiles.png": "Performance profiles: the share of runs that reached more than "
    "each return, with 95 % bootstrap intervals.",
}


def write_report(folder: ComparisonFolder) -> Path:
    """Turn a finished comparison into ``report.html``, with its pictures inside.

    Args:
        folder: The comparison's folder.

    Returns:
        The page.

    Raises:
        ValueError: If the comparison has not finished, or its results make no sense.
    """
    config = folder.config()
    with reading_results(folder, "memorax compare --comparison-folder") as found:
        reached = [Row(**row) for row in found["rows"]]
        text = _page(folder, config, reached, found["diverged"])
    folder.write("report.html", text)
    return folder.path / "report.html"


def _page(folder: ComparisonFolder, config: CompareConfig, found: list[Row], diverged) -> str:
    return page(
        title=", ".join(config.models),
        summary=f"{len(config.models)} model(s) on {len(config.environments)} task(s) with "
        f"{config.num_seeds} seed(s) each, {config.total_steps:,} environment steps a seed, "
        f"{config.features} features.",
        sections=[
            section(
                "Results",
                table(header(config), _by_task(found, formatted)),
                points(notes(config, found, diverged)),
            ),
            section(
                "Pictures",
                *(picture(folder.path / name, caption) for name, caption in PICTURES.items()),
            ),
            section(
                "Every seed", table(["model", "what each seed reached"], _by_task(found, _seeds))
            ),
            section(
                "Configuration",
                folded("config.json", (folder.path / "config.json").read_text(encoding="utf-8")),
            ),
        ],
    )


def _by_task(found, columns_of):
    """Yield a table body for each task, under the task's name."""
    for task, same_task in itertools.groupby(found, lambda row: row.task):
        yield rows([columns_of(row) for row in same_task], task)


def _seeds(row):
    return [row.model, ", ".join(f"{value:.3f}" for value in row.seed_values)]
