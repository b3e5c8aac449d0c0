"""A page that needs nothing but a browser."""

import base64
import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from memorax.experiments.files.fields import reading
from memorax.experiments.files.folder import Folder
from memorax.experiments.run.console import resume_command

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
$sections
</body>
</html>
""")


@contextlib.contextmanager
def reading_results(folder: Folder, command: str) -> Iterator[dict[str, Any]]:
    """Yield the contents of ``results.json``.

    Args:
        folder: The folder.
        command: The command that resumes such a folder, up to its path.

    Raises:
        ValueError: If there are no results yet, or they cannot be read.
    """
    path = folder.path / "results.json"
    if not path.is_file():
        raise ValueError(
            f"{folder.path} has no results yet: resume with: {resume_command(command, folder.path)}"
        )
    with reading(path, "results"):
        yield json.loads(path.read_text(encoding="utf-8"))


def write_page(
    folder: Folder, title: str, summary: str, sections: Sequence[str], plots: Mapping[str, str]
) -> Path:
    """Write ``report.html``, with all plots inside and the configuration at its end.

    Args:
        folder: The study's folder.
        title: The page's title.
        summary: Its subject, in a sentence.
        sections: Its first sections, from ``section``.
        plots: The captions of the folder's plots by file name; those that do not exist are left
            out.

    Returns:
        The page.
    """
    shown = [
        picture(folder.path / name, text)
        for name, text in plots.items()
        if (folder.path / name).is_file()
    ]
    config = (folder.path / "config.json").read_text(encoding="utf-8")
    text = _PAGE.substitute(
        title=escape(title),
        summary=escape(summary),
        sections="\n".join(
            [
                *sections,
                section("Plots", *shown),
                section("Configuration", folded("config.json", config)),
            ]
        ),
    )
    folder.write("report.html", text)
    return folder.path / "report.html"


def section(heading: str, *parts: str) -> str:
    """Return parts of a page, which are HTML, under a heading."""
    return "\n".join([f"<h2>{escape(heading)}</h2>", *parts])


def table(header: Sequence[str], bodies: Iterable[str]) -> str:
    """Return a table with its columns' titles, of bodies as ``rows`` returns them."""
    titles = "".join(f"<th>{escape(column)}</th>" for column in header)
    return (
        f'<div class="scroll"><table>\n<thead><tr>{titles}</tr></thead>\n'
        + "\n".join(bodies)
        + "\n</table></div>"
    )


def rows(lines: Iterable[Sequence[str]], heading: str = "") -> str:
    """Return a body of a table, under a heading if there is one."""
    lines = list(lines)
    top = f'<tr><th colspan="{len(lines[0])}">{escape(heading)}</th></tr>\n' if heading else ""
    cells = ("".join(f"<td>{escape(column)}</td>" for column in line) for line in lines)
    return f"<tbody>{top}" + "\n".join(f"<tr>{line}</tr>" for line in cells) + "</tbody>"


def points(sentences: Iterable[str]) -> str:
    """Return sentences as a list."""
    return "\n".join(["<ul>", *(f"<li>{escape(line)}</li>" for line in sentences), "</ul>"])


def preformatted(text: str) -> str:
    """Return a text whose lines and spaces stay as they are."""
    return f"<pre>{escape(text)}</pre>"


def folded(summary: str, text: str) -> str:
    """Return a text that is shown when it is asked for."""
    return f"<details><summary>{escape(summary)}</summary>{preformatted(text)}</details>"


def picture(path: Path, caption: str) -> str:
    """Return a picture, embedded in the page."""
    data = base64.b64encode(path.read_bytes()).decode()
    caption = escape(caption)
    return (
        f'<figure><img alt="{caption}" src="data:image/png;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )
