"""A sweep as one page, which needs nothing but a browser."""

from pathlib import Path

from memorax.experiments.study.page import (
    folded,
    page,
    picture,
    points,
    preformatted,
    reading_results,
    rows,
    section,
    table,
)
from memorax.experiments.study.sweep import MOST_CURVES, SweepFolder
from memorax.experiments.study.sweep_results import TrialRow, formatted, header, notes

PICTURES = {
    "searched_values.png": "What each finished trial reached against what it took, with 95 % "
    "bootstrap intervals over seeds.",
    "learning_curves.png": "Return of the episodes that ended while training, of the best trials, "
    f"{MOST_CURVES} at most: interquartile mean over seeds, with 95 % bootstrap intervals.",
}


def write_report(folder: SweepFolder) -> Path:
    """Turn a finished sweep into ``report.html``, with its pictures inside.

    Args:
        folder: The sweep's folder.

    Returns:
        The page.

    Raises:
        ValueError: If the sweep has not finished, or its results make no sense.
    """
    with reading_results(folder, "memorax sweep --sweep-folder") as found:
        reached = [TrialRow(**row) for row in found["rows"]]
        text = _page(folder, reached, found["best"])
    folder.write("report.html", text)
    return folder.path / "report.html"


def _page(folder: SweepFolder, reached: list[TrialRow], best: str | None) -> str:
    config = folder.config()
    train = config.train
    finished = sum(row.outcome == "finished" for row in reached)
    pictures = {name: text for name, text in PICTURES.items() if (folder.path / name).is_file()}
    sections = [
        section(
            "Pictures", *(picture(folder.path / name, text) for name, text in pictures.items())
        ),
        section(
            "Configuration",
            folded("config.json", (folder.path / "config.json").read_text(encoding="utf-8")),
        ),
    ]
    return page(
        title=f"{', '.join(config.space)} of {train.algorithm_name} on {train.task}",
        summary=f"{len(reached)} trials by {config.method} search, of which {finished} finished, "
        f"with {train.num_seeds} seed(s) each, {train.total_steps:,} environment steps a seed.",
        sections=[
            *([section("The best again", preformatted(best))] if best else []),
            section(
                "Results",
                table(header(config), [rows([formatted(config, row) for row in reached])]),
                points(notes(config, reached)),
            ),
            *sections,
        ],
    )
