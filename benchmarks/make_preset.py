"""Make a preset out of a finished run, or of a comparison: its settings, and what it reached."""

import json
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import tyro

from memorax.experiments.files.folder import Folder
from memorax.experiments.presets import preset
from memorax.experiments.presets.preset import Measured, Reached
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.folder import RunFolder
from memorax.experiments.run.preset import preset_settings
from memorax.experiments.study.comparison import ComparisonFolder
from memorax.experiments.study.results import Row


@dataclass(frozen=True)
class Options:
    """Write memorax/experiments/presets/settings/NAME.json."""

    name: Annotated[str, tyro.conf.Positional]
    """The preset's name, such as t-maze."""
    folder: Annotated[Path, tyro.conf.Positional]
    """The folder of a run, or of a comparison of one task, with its results."""
    description: str
    """What it is for, in a sentence."""
    model: str | None = None
    """The model of the comparison, by its name in the table; mlp is listed beside it."""
    date: str | None = None
    """When it was measured, as YYYY-MM-DD; None: when the results were written."""


def main(options: Options) -> None:
    """Write a preset."""
    comparison = ComparisonFolder.is_at(options.folder)
    results = options.folder / ("results.json" if comparison else "evaluation.json")
    read = of_comparison if comparison else of_run
    config, reached = read(json.loads(results.read_text(encoding="utf-8")), options)
    day = options.date or date.fromtimestamp(results.stat().st_mtime).isoformat()
    fields = {
        "description": options.description,
        "settings": preset_settings(config),
        "measured": asdict(Measured(day, tuple(reached))),
    }
    name = f"{options.name}.json"
    Folder(preset.FOLDER).write(name, json.dumps(fields, indent=2, allow_nan=False) + "\n")
    print(preset.FOLDER / name)


def of_run(evaluations: Any, options: Options) -> tuple[TrainConfig[Any], list[Reached]]:
    """Return the settings of a run, and what each of its models reached."""
    reached = [
        _reached(
            row["model"], row["seed_returns"], row["sampled"]["mean_return"], row["best_return"]
        )
        for row in evaluations
    ]
    return RunFolder.open(options.folder).config(), reached


def of_comparison(results: Any, options: Options) -> tuple[TrainConfig[Any], list[Reached]]:
    """Return the settings of one model of a comparison, and what it and ``mlp`` reached."""
    (config,) = (
        run.config
        for run in ComparisonFolder.open(options.folder).config().runs
        if run.model == options.model
    )
    rows = {row.model: row for row in (Row(**row) for row in results["rows"])}
    twin = [rows["mlp"]] if "mlp" in rows else []
    reached = [
        _reached(name, row.seed_values, row.sampled_return, row.best_return)
        for name, row in zip((config.torso, "mlp"), (rows[options.model], *twin), strict=False)
    ]
    parameters = config.environment_parameters or None
    return replace(config, environment_parameters=parameters, memoryless_twin=bool(twin)), reached


def _reached(model: str, seed_returns: list[float], *others: float | None) -> Reached:
    sampled, best = (None if value is None else round(value, 3) for value in others)
    return Reached(model, tuple(round(value, 3) for value in seed_returns), sampled, best)


if __name__ == "__main__":
    main(tyro.cli(Options))
