import json
import re
import shlex
from pathlib import Path

import pytest

from memorax.experiments import command_line

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = ("train", "evaluate", "compare", "report", "environments")


def blocks(document, language):
    """Return the code blocks of a document in a language, "" for those that name none."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", document.read_text(), re.M | re.S)
    return [block for name, block in found if name == language]


def commands(block):
    """Return the calls of ``memorax`` in a block, a list of arguments each."""
    lines = block.replace("\\\n", " ").splitlines()
    calls = [shlex.split(line, comments=True) for line in lines]
    return [call[1:] for call in calls if call[:1] == ["memorax"]]


def documents_with(language):
    return [
        pytest.param(document, id=str(document.relative_to(ROOT)))
        for document in DOCUMENTS
        if blocks(document, language)
    ]


class Parsed(BaseException):
    """The options were understood; nothing is to be run."""


@pytest.mark.parametrize("document", documents_with("python"))
def test_every_code_block_runs(document, as_a_user, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": document.name}
    for block in blocks(document, "python"):
        exec(compile(block, document.name, "exec"), namespace)


@pytest.mark.parametrize("document", documents_with("shell"))
def test_every_command_is_understood(document, monkeypatch):
    parse = command_line._parse

    def parse_only(*arguments, **keywords):
        raise Parsed(parse(*arguments, **keywords))

    monkeypatch.setattr(command_line, "_parse", parse_only)
    for block in blocks(document, "shell"):
        for arguments in commands(block):
            if "--help" in arguments:
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
