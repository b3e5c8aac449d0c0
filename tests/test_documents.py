import ast
import importlib
import inspect
import json
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from memorax.experiments.cli import command_line, imports, parsing
from memorax.experiments.cli.parsing import parse
from memorax.experiments.presets.torsos import TORSOS, states_table, torsos_table
from memorax.networks import cells

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TUTORIAL = ROOT / "docs" / "tutorial.md"
LONGEST_CELL = 25
LESS_TRAINING = (
    *("--total-steps", "256", "--num-seeds", "2", "--evaluation-episodes", "8", "--features", "8"),
)
COMMANDS = (
    "train",
    "evaluate",
    "play",
    "export",
    "compare",
    "sweep",
    "report",
    "presets",
    "environments",
    "doctor",
    "check-memory",
)


def all_blocks(document):
    """Return a document's code blocks, each with its language, "" if it names none."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", document.read_text(), re.M | re.S)


def blocks(document, language):
    return [block for name, block in all_blocks(document) if name == language]


def calls(block):
    """Return the commands of a block of shell, a list of words each."""
    lines = block.replace("\\\n", " ").splitlines()
    return [call for line in lines if (call := shlex.split(line, comments=True))]


def documents_with(language):
    return [
        pytest.param(document, id=str(document.relative_to(ROOT)))
        for document in DOCUMENTS
        if blocks(document, language)
    ]


class Parsed(BaseException):
    """The options were understood; nothing is to be run."""


@pytest.mark.parametrize(
    "document",
    # The tutorial's blocks are files that its commands need; it is walked below.
    [
        pytest.param(
            *param.values,
            id=param.id,
            marks=[pytest.mark.exhaustive] if param.values[0].parent != ROOT else [],
        )
        for param in documents_with("python")
        if param.values[0] != TUTORIAL
    ],
)
def test_every_code_block_runs(document, as_a_user, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": document.name}
    for block in blocks(document, "python"):
        exec(compile(block, document.name, "exec"), namespace)


@pytest.mark.parametrize("document", documents_with("shell"))
def test_every_command_is_understood(document, monkeypatch):
    def parse_only(*arguments, **keywords):
        raise Parsed(parse(*arguments, **keywords))

    for name, _ in command_line.COMMANDS.values():
        module = importlib.import_module(f"memorax.experiments.cli.{name}")
        monkeypatch.setattr(module, "parse", parse_only, raising=name != "doctor")
    # The tutorial has written it by then.
    monkeypatch.setattr(imports, "import_modules", lambda modules: None)
    monkeypatch.setitem(TORSOS, "decay", TORSOS["gru"])
    # The doctor imports it when it is asked for.
    monkeypatch.setattr(parsing, "parse", parse_only)
    for block in blocks(document, "shell"):
        for program, *arguments in calls(block):
            if program != "memorax":
                continue
            if {"--help", "--help-all"} & set(arguments):
                with pytest.raises(SystemExit, match="0"):
                    command_line.main(arguments)
            else:
                with pytest.raises(Parsed):
                    command_line.main(arguments)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_commands_stand_in_blocks_that_the_tests_read(document):
    known = "|".join(COMMANDS)
    for block in blocks(document, ""):
        assert not re.search(rf"^memorax ({known})( |$)", block, re.M), block


def test_the_table_of_sequence_models_says_what_was_measured():
    results = ROOT / "docs" / "results"
    horizon = json.loads((results / "memory_horizon.json").read_text())
    reached = {row["model"]: row for row in horizon["rows"]}
    timed = {
        (row["model"], row["passes"], row["batch"], row["time"]): row["milliseconds"]
        for row in json.loads((results / "sequence_models.json").read_text())["rows"]
    }

    def ratio(*key):
        if key not in timed:
            return "-"
        return f"{timed[key]['ours'] / timed[key]['(d) Flax GRU']:.2f}"

    rows = re.findall(
        r"^\| ([\w -]+) \| `\w+` \|(.*) \|$",
        (ROOT / "docs" / "sequence_models.md").read_text(),
        re.M,
    )
    assert {name for name, _ in rows} == set(reached)
    for name, columns in rows:
        row = reached[name]
        furthest = horizon["time"] - 1
        assert columns.split(" | ") == [
            f" {row['parameters']:,}",
            f"{row['carry_bytes']:,}",
            f"{furthest} or more" if row["reach"] == furthest else f"{row['reach']}",
            ratio(name, "both", 16, 1024),
            ratio(name, "forward", 1, 1),
        ]


@pytest.mark.exhaustive
def test_the_tutorial_leads_from_the_first_command_to_the_last(as_a_user, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setitem(TORSOS, "decay", None)  # so that the tutorial's own is taken back, too
    targets = (ROOT / "Makefile").read_text()
    less = {"train": (*LESS_TRAINING, "--num-envs", "4"), "compare": LESS_TRAINING}

    def run(program, *arguments):
        options = [*arguments]
        if arguments and arguments[0] in less:
            options += less[arguments[0]]
        if program == "memorax":
            assert command_line.main(options) == 0
            return
        monkeypatch.setattr(sys, "argv", [program, *options])
        code = 0
        try:
            runpy.run_path(program, run_name="__main__")
        except SystemExit as stop:
            code = stop.code
        assert code == 0

    for language, block in all_blocks(TUTORIAL):
        if language == "python":
            for node in ast.parse(block).body:
                if isinstance(node, ast.ClassDef):
                    assert node.end_lineno - node.lineno < LONGEST_CELL
            Path(block.splitlines()[0].removeprefix("# ")).write_text(block)
            continue
        for program, *arguments in calls(block):
            match program:
                case "make":
                    assert f"\n{arguments[0]}:" in targets
                case "source":
                    assert arguments == [".venv/bin/activate"]
                case "python":
                    run(*arguments)
                case _:
                    run(program, *arguments)
    table = (tmp_path / "comparisons" / "decay" / "table.csv").read_text()
    assert "decay" in table
    assert (tmp_path / "comparisons" / "decay" / "report.html").is_file()


def test_the_page_of_sequence_models_lists_every_torso_by_name_as_the_code_builds_it():
    assert torsos_table() in (ROOT / "docs" / "sequence_models.md").read_text()


def test_the_page_of_memories_has_the_state_and_the_recurrence_of_every_torso_by_name():
    page = (ROOT / "docs" / "memories.md").read_text()
    assert states_table() in page
    recurrences = page.partition("| name | recurrence |")[2].partition("\n\n")[0]
    named = re.findall(r"`(\w+)`", " ".join(re.findall(r"^\|([^|]*)\|", recurrences, re.M)))
    # Those that are built of others, and the one without memory, have no recurrence of their own.
    assert sorted([*named, "mlp", "rl2_gru", "xlstm"]) == sorted(TORSOS)


def test_readme_has_a_row_for_every_cell():
    table = (ROOT / "README.md").read_text().partition("## Memories")[2].partition("\n## ")[0]
    linked = {Path(path) for path in re.findall(r"\]\((memorax/\S+\.py)\)", table)}
    exported = (getattr(cells, name) for name in cells.__all__ if name.endswith("Cell"))
    files = {Path(inspect.getfile(cell)).relative_to(ROOT) for cell in exported}
    assert files <= linked
    assert all((ROOT / path).exists() for path in linked)
