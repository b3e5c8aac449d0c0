"""A comparison as one page, which needs nothing but a browser."""

import base64
import json
from html import escape
from pathlib import Path
from string import Template

from memorax.experiments.comparison import ComparisonFolder
from memorax.experiments.comparison_config import CompareConfig
from memorax.experiments.comparison_results import Row, formatted, header, notes

PICTURES = {
    "learning_curves.png": "Return of the episodes that ended while training: interquartile mean "
    "over seeds, with 95 % bootstrap intervals.",
    "performance_profiles.png": "Performance profiles: the share of runs that reached more than "
    "each return, with 95 % bootstrap intervals.",
}

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
:root { --text: #1b1f24; --page: #ffffff; --line: #d0d7de; --shade: #f6f8fa; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6edf3; --page: #0d1117; --line: #3d444d; --shade: #161b22; }
}
body { max-width: 64rem; margin: 0 auto; padding: 1rem; color: var(--text);
  background: var(--page); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child { text-align: left; }
thead th { background: var(--shade); }
tbody th { padding-top: 1rem; white-space: nowrap; }
td { white-space: nowrap; }
figure { margin: 2rem 0; }
img { max-width: 100%; height: auto; background: #ffffff; border-radius: .4rem; }
pre { padding: .7rem; overflow-x: auto; background: var(--shade); }
</style>
</head>
<body>
<h1>$title</h1>
<p>$summary</p>
<h2>Results</h2>
<div class="scroll"><table>
<thead><tr>$header</tr></thead>
$body
</table></div>
<ul>
$notes
</ul>
<h2>Pictures</h2>
$pictures
<h2>Every seed</h2>
<div class="scroll"><table>
<thead><tr><th>model</th><th>what each seed reached</th></tr></thead>
$seeds
</table></div>
<h2>Configuration</h2>
<details><summary>config.json</summary><pre>$config</pre></details>
</body>
</html>
""")


def write_report(folder: ComparisonFolder) -> Path:
    """Turn a finished comparison into ``report.html``, with its pictures inside.

    Args:
        folder: The comparison's folder.

    Returns:
        The page.

    Raises:
        ValueError: If the comparison has not finished.
    """
    results = folder.path / "results.json"
    if not results.is_file():
        raise ValueError(
            f"{folder.path} has no results yet: let the comparison finish by "
            f"'memorax compare --comparison-folder {folder.path} --resume'"
        )
    config = folder.config()
    found = json.loads(results.read_text())
    rows = [Row(**row) for row in found["rows"]]
    folder.write("report.html", _page(folder, config, rows, found["diverged"]))
    return folder.path / "report.html"


def _page(folder: ComparisonFolder, config: CompareConfig, rows: list[Row], diverged) -> str:
    columns = header(config)
    return _PAGE.substitute(
        title=escape(f"{', '.join(config.models)}"),
        summary=escape(
            f"{len(config.models)} model(s) on {len(config.environments)} task(s) with "
            f"{config.num_seeds} seed(s) each, {config.total_steps:,} environment steps a seed, "
            f"{config.features} features."
        ),
        header="".join(f"<th>{escape(column)}</th>" for column in columns),
        body=_by_task(rows, formatted, len(columns)),
        notes="\n".join(f"<li>{escape(note)}</li>" for note in notes(config, diverged)),
        pictures="\n".join(_picture(folder, *picture) for picture in PICTURES.items()),
        seeds=_by_task(rows, _seeds, 2),
        config=escape((folder.path / "config.json").read_text()),
    )


def _by_task(rows, columns_of, width):
    """Return a table body for each task, under the task's name."""
    bodies = {}
    for row in rows:
        cells = "".join(f"<td>{escape(column)}</td>" for column in columns_of(row))
        bodies.setdefault(row.task, []).append(f"<tr>{cells}</tr>")
    return "\n".join(
        f'<tbody><tr><th colspan="{width}">{escape(task)}</th></tr>\n'
        + "\n".join(lines)
        + "</tbody>"
        for task, lines in bodies.items()
    )


def _seeds(row):
    return [row.model, ", ".join(f"{value:.3f}" for value in row.seed_values)]


def _picture(folder, name, caption):
    data = base64.b64encode((folder.path / name).read_bytes()).decode()
    caption = escape(caption)
    return (
        f'<figure><img alt="{caption}" src="data:image/png;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )
