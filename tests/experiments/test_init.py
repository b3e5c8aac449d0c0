"""A folder with a task and a cell of one's own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from memorax.experiments.cli.command_line import main

ROOT = Path(__file__).parents[2]


def run(folder, *command):
    """Run Python in a folder, with memorax from here."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_is_made_passes_its_tests_is_tidy_and_trains(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["init", "my_memory"]) == 0
    told = capsys.readouterr().out
    assert "cd my_memory && python train.py" in told
    folder = tmp_path / "my_memory"
    names = {"my_memory_cell.py", "my_memory_task.py", "test_my_memory.py", "train.py"}
    assert {path.name for path in folder.iterdir()} == names
    assert [path.name for path in tmp_path.iterdir()] == ["my_memory"]
    code = "import train; assert train.main(4_096) == train.main(4_096)"
    for command in (
        ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"),
        ("-m", "ruff", "check", "--no-cache", "--line-length=100", "--select=E,F,I,UP,B", "."),
        ("-c", code),
    ):
        ran = run(folder, *command)
        assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.exhaustive
def test_the_cell_that_is_made_learns_the_task_that_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["init", "decay"]) == 0
    ran = run(tmp_path / "decay", "-c", "import train; assert train.main() > 0.9")
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("my-memory", "name must be that of a Python module, of letters, digits and _"),
        ("../up", "got '../up'"),
        ("1st", "got '1st'"),
        ("class", "got 'class'"),
        ("jax", "must be none of a module that there is, got 'jax'"),
        ("random", "must be none of a module that there is, got 'random'"),
        ("full", "full is there already, and not an empty folder"),
        ("file", "file is there already"),
    ],
)
def test_names_and_places_that_cannot_be_are_refused(name, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    assert main(["init", name]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert sorted(tmp_path.rglob("*")) == before


def test_an_empty_folder_is_filled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "decay").mkdir()
    assert main(["init", "decay"]) == 0
    assert (tmp_path / "decay" / "train.py").is_file()
