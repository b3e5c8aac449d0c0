import csv
import json
import shlex
import shutil
from html.parser import HTMLParser

import pytest

from memorax.experiments.cli.command_line import main

pytestmark = pytest.mark.exhaustive

TASKS = ("memory::MemoryChain memory_length=3", "memory::TMazePassive corridor_length=2")
SMALL = (
    *("--torsos", "gru", "mlp", "--environments", *TASKS, "--features", "8"),
    *("--ppo.num-envs", "4", "--ppo.num-steps", "8", "--ppo.num-minibatches", "2"),
    *("--ppo.update-epochs", "1", "--total-steps", "96", "--num-seeds", "2"),
    *("--evaluation-episodes", "8", "--return-ranges", "-1", "1", "-1", "1"),
)


def compare(folder, *options):
    return main(["compare", *SMALL, "--comparison-folder", str(folder), *options])


def rows_of(folder):
    rows = json.loads((folder / "results.json").read_text())["rows"]
    return [{key: value for key, value in row.items() if "second" not in key} for row in rows]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparisons") / "finished"
    assert compare(folder) == 0
    return folder


def test_every_model_on_every_task_is_a_run_and_a_row(finished):
    rows = rows_of(finished)
    named = [(row["task"], row["model"]) for row in rows]
    assert [pair for pair in named if pair[0] in TASKS] == [
        (task, model) for task in TASKS for model in ("gru", "mlp")
    ]
    # Both tasks together too, for their returns have ranges.
    assert len(rows) == 6
    for row, run in zip(rows[:4], sorted(finished.glob("runs/*/*/evaluation.json")), strict=True):
        (evaluation,) = json.loads(run.read_text())
        assert row["best_return"] == pytest.approx(evaluation["best_return"])
        assert row["sampled_return"] == pytest.approx(evaluation["sampled"]["mean_return"])
    for model in ("gru", "mlp"):
        assert len(list(finished.glob(f"runs/*/{model}/evaluation.json"))) == 2
    for picture in ("learning_curves.png", "performance_profiles.png"):
        assert (finished / picture).read_bytes().startswith(b"\x89PNG")
    with (finished / "table.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 6
    page = (finished / "table.md").read_text().splitlines()
    assert [f"**{task}**" in page for task in (*TASKS, "all tasks")] == [True] * 3
    assert sum(line.startswith(("| gru |", "| mlp |")) for line in page) == 6


def test_a_comparison_goes_on_where_it_stopped(finished, tmp_path, capsys):
    folder = tmp_path / "stopped"
    shutil.copytree(finished, folder)
    runs = sorted(path for path in folder.glob("runs/*/*"))
    kept = (runs[0] / "evaluation.json").stat().st_mtime_ns
    # As if it had been killed: in one run before its evaluation, before another one began.
    (runs[1] / "evaluation.json").unlink()
    shutil.rmtree(runs[2])
    (folder / "results.json").unlink()
    assert main(["report", str(folder)]) == 2
    assert "no results yet" in capsys.readouterr().err
    assert main(["compare", "--comparison-folder", str(folder), "--resume"]) == 0
    assert (runs[0] / "evaluation.json").stat().st_mtime_ns == kept
    assert rows_of(folder) == rows_of(finished)


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.sources, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.text += data


def test_the_report_is_one_page_with_the_numbers_and_nothing_from_elsewhere(finished, capsys):
    assert main(["report", str(finished)]) == 0
    path = finished / "report.html"
    assert capsys.readouterr().out.strip() == str(path)
    page = Page()
    page.feed(path.read_text())
    assert len(page.sources) == 2
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert "http" not in path.read_text()
    for task in TASKS:
        assert task in page.text
    for row in rows_of(finished):
        for value in row["seed_values"]:
            assert f"{value:.3f}" in page.text


def test_the_report_shows_what_each_memory_keeps(finished, tmp_path):
    folder = tmp_path / "finished"
    shutil.copytree(finished, folder)
    assert main(["report", str(folder), "--influence"]) == 0
    page = Page()
    page.feed((folder / "report.html").read_text())
    # Two plots of the comparison, and one of each run.
    assert len(page.sources) == 2 + 4
    assert "What each memory keeps" in page.text
    for task in TASKS:
        assert f"gru on {task}: how strongly the input of each step" in page.text
    drawn = [path.stat().st_mtime_ns for path in sorted(folder.glob("runs/*/*/influence.png"))]
    assert main(["report", str(folder), "--influence"]) == 0
    again = [path.stat().st_mtime_ns for path in sorted(folder.glob("runs/*/*/influence.png"))]
    assert (len(drawn), again) == (4, drawn)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("compare --torsos gru gro", "unknown torso 'gro'; the closest are: gru"),
        ("compare --torsos gru gru", "torsos must differ from each other"),
        (
            "compare --environments 'memory::TMaze a=1' 'memory::TMaze  a=1 '",
            "environments must differ from each other, got 'memory::TMaze a=1' 2 times",
        ),
        ("compare --algorithms ppo dqm", "unknown algorithm 'dqm'"),
        ("compare --environments memory::Nothing", "unknown memory task 'Nothing'"),
        ("compare --resume", "--resume needs --comparison-folder"),
        ("compare --return-ranges 1 0", "return_ranges must go from low to high"),
        ("compare --return-ranges 0 inf", "return_ranges must go from low to high, both finite"),
        ("compare --environments 'memory::TMaze a=1 a=2'", "must give each once, got 'a' twice"),
        ("report nowhere", "nowhere is not a comparison folder"),
    ],
)
def test_bad_input_is_told_in_one_line_with_exit_code_2(
    arguments, words, capsys, as_a_user, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(arguments)) == 2
    output = capsys.readouterr().err
    assert words in output
    assert output.count("\n") == 1


def test_a_folder_that_exists_is_refused_and_so_is_another_configuration(finished, capsys):
    assert compare(finished) == 2
    assert "exists" in capsys.readouterr().err
    assert compare(finished, "--resume", "--seed", "7") == 2
    assert "seed is 0, got 7" in capsys.readouterr().err


def test_results_of_before_the_evaluation_of_sampled_actions_are_reported(finished, tmp_path):
    folder = tmp_path / "earlier"
    shutil.copytree(finished, folder)
    results = json.loads((folder / "results.json").read_text())
    for row in results["rows"]:
        del row["sampled_return"], row["best_return"]
    (folder / "results.json").write_text(json.dumps(results))
    assert main(["report", str(folder)]) == 0
    assert "<td></td><td></td>" in (folder / "report.html").read_text()


def test_results_that_make_no_sense_are_told(finished, tmp_path, capsys):
    folder = tmp_path / "odd"
    shutil.copytree(finished, folder)
    for text in ("{", "[]", '{"rows": [{"task": 1}], "diverged": {}}'):
        (folder / "results.json").write_text(text)
        assert main(["report", str(folder)]) == 2
        assert "results.json holds no results" in capsys.readouterr().err
