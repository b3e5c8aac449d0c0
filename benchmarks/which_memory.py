"""Which memory: what each torso returns on the memory tasks, against its speed.

Reads the results of comparisons and the speeds that benchmarks/training.py wrote, and draws one
point for each torso. Nothing is trained.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import tyro

TWIN = "mlp"


@dataclass
class Options:
    """Draw returns against steps per second, and write the table of both."""

    results: tuple[Path, ...] = (Path("docs/results/memories"), Path("docs/results/recall"))
    """Folders that hold the folders of comparisons."""
    speeds: Path = Path("docs/results/memories/training.md")
    """The table of speeds."""
    output: Path = Path("docs/results")
    """The folder for which_memory.md and which_memory.png."""


def main(options: Options) -> None:
    speeds = read_speeds(options.speeds)
    paths = [path for folder in options.results for path in sorted(folder.glob("*/results.json"))]
    tasks = read_returns(paths)
    torsos = [torso for torso in speeds if any(torso in returns for returns in tasks.values())]
    if not torsos:
        raise SystemExit(f"no torso of {options.speeds} has a return in {options.results}")
    torsos.sort(key=speeds.__getitem__, reverse=True)
    write_table(options.output / "which_memory.md", torsos, speeds, tasks)
    draw(options.output / "which_memory.png", torsos, speeds, tasks)


def read_speeds(path: Path) -> dict[str, float]:
    """Return the steps per second of each torso as multiples of the GRU's, measured beside it."""
    rows = [re.split(r"\s*\|\s*", line.strip("| \n")) for line in path.read_text().splitlines()]
    names = rows[0]
    return {row[0]: float(row[names.index("of the GRU's")]) for row in rows[2:]}


def read_returns(paths: list[Path]) -> dict[str, dict[str, list[float]]]:
    """Return each task's returns, by torso and seed."""
    tasks: dict[str, dict[str, list[float]]] = {}
    for path in paths:
        for row in json.loads(path.read_text())["rows"]:
            task = row["task"].removeprefix("memory::")
            tasks.setdefault(task, {})[row["model"]] = row["seed_values"]
    return tasks


def write_table(path, torsos, speeds, tasks) -> None:
    lines = [
        f"| torso | steps/s, of the GRU's | {' | '.join(tasks)} |",
        "|---" * (len(tasks) + 2) + "|",
    ]
    for torso in [*torsos, TWIN]:
        speed = f"{speeds[torso]:.2f}" if torso in speeds else "-"
        seeds = [of.get(torso, ()) for of in tasks.values()]
        cells = [" ".join(f"{value:.2f}" for value in values) or "-" for values in seeds]
        lines.append(f"| `{torso}` | {speed} | {' | '.join(cells)} |")
    path.write_text("\n".join(lines) + "\n")


def draw(path, torsos, speeds, tasks) -> None:
    """Draw a panel for each task: every seed's return, a line through their mean."""
    figure, panels = plt.subplots(
        1, len(tasks), figsize=(3 * len(tasks), 4), sharey=True, layout="constrained", squeeze=False
    )
    for axes, (task, returns) in zip(panels[0], tasks.items(), strict=True):
        for number, torso in enumerate(torsos):
            if torso in returns:
                values = returns[torso]
                color = f"C{number}" if number < 10 else "black"
                axes.plot([speeds[torso]] * len(values), values, "o", color=color, label=torso)
                axes.plot(speeds[torso], np.mean(values), "_", color=color, markersize=18)
        without = float(np.mean(returns[TWIN]))
        axes.axhline(without, color="gray", linestyle=":", label=f"{TWIN}, no memory")
        axes.set_xscale("log")
        axes.set_xlabel("steps per second, of the GRU's")
        axes.set_title(f"{task}, {len(returns[TWIN])} seeds", fontsize="medium")
    panels[0][0].set_ylabel("return of each seed, their mean as a line")
    labels = {
        label: handle
        for axes in panels[0]
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(labels.values(), labels.keys(), loc="outside lower center", ncols=6)
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main(tyro.cli(Options))
