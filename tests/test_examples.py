import runpy
import sys
from pathlib import Path

import matplotlib
import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
LINES = 60


@pytest.mark.exhaustive
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_an_example_runs_as_a_script(example, as_a_user, monkeypatch, tmp_path, capsys):
    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(example), "--total-steps", "1200"])
    runpy.run_path(str(example), run_name="__main__")
    assert capsys.readouterr().out
    assert [path.suffix for path in tmp_path.iterdir()] in ([], [".png"])


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_an_example_is_short(example):
    assert len(example.read_text().splitlines()) < LINES


def test_there_are_six_examples():
    assert len(EXAMPLES) == 6
