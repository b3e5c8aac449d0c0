"""What ``memorax evaluate`` writes, and evaluations of a task with other parameters."""

import json

import numpy as np
import pytest

from memorax.experiments.cli.command_line import main
from memorax.experiments.run import plotting

OPTIONS = (
    *("--environment", "memory::TMazePassive", "--torso", "mlp", "--features", "4"),
    *("--num-envs", "4", "--num-steps", "8", "--num-minibatches", "1", "--update-epochs", "1"),
    *("--num-seeds", "2", "--total-steps", "64", "--evaluation-episodes", "8"),
    *("--no-memoryless-twin", "--loggers", "csv"),
    *("--environment-parameters", "corridor_length=3"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", *OPTIONS, "--run-folder", str(folder)]) == 0
    return folder


@pytest.mark.parametrize(("parameters", "length"), [((), 3), (("corridor_length=7",), 7)])
def test_the_file_holds_every_episode_and_what_they_amount_to(
    parameters, length, run, tmp_path, capsys
):
    path = tmp_path / "results.json"
    options = ["--environment-parameters", *parameters] if parameters else []
    assert main(["evaluate", str(run), *options, "--output", str(path)]) == 0
    told = capsys.readouterr().out
    assert f"memory::TMazePassive corridor_length={length}" in told
    assert f"results: {path}\n" in told
    results = json.loads(path.read_text())
    assert results["environment_parameters"] == {"corridor_length": length}
    (model,) = results["models"]
    returns = np.array(model["episode_returns"])
    assert returns.shape == (2, 8)
    assert model["mean_return"] == pytest.approx(returns.mean())
    assert model["standard_deviation"] == pytest.approx(returns.std())
    assert model["seed_returns"] == pytest.approx(returns.mean(axis=1))
    assert model["low"] <= model["mean_return"] <= model["high"]
    assert np.shape(model["sampled"]["episode_returns"]) == (2, 8)
    (stored,) = json.loads((run / "evaluation.json").read_text())
    # The same episodes as the run's own, if the task is the same.
    assert (model["seed_returns"] == stored["seed_returns"]) or length != 3
    assert (model["best_return"] is None) == (length != 3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--output", "results.txt"), "output must end in .json, got results.txt"),
        (("--output", "there.json"), "there.json exists and is not overwritten"),
        (("--output", "no/results.json"), "output must be in a folder that exists"),
        (("--environment-parameters", "corridor"), "must be name=value, got 'corridor'"),
        (("--environment-parameters", "lenght=3"), "the closest are: corridor_length"),
        (("--environment-parameters", "corridor_length=3,3"), "different values, got 3,3"),
        (("--environment-parameters", "corridor_length=3,"), "must be name=value"),
        (
            ("--environment-parameters", "corridor_length=3,5", "active=True,False"),
            "one parameter several values, got 'corridor_length=3,5' and 'active=True,False'",
        ),
    ],
)
def test_what_cannot_be_evaluated_or_written_is_refused(
    options, words, run, tmp_path, monkeypatch, capsys, as_a_user
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.json").write_text("mine")
    assert main(["evaluate", str(run), *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert (tmp_path / "there.json").read_text() == "mine"


@pytest.mark.parametrize("columns", ["80", "120"])
def test_several_values_are_a_table_and_a_picture(columns, run, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    path = tmp_path / "results.json"
    figures = []
    save = plotting.save_figure
    monkeypatch.setattr(
        plotting, "save_figure", lambda figure, path: (figures.append(figure), save(figure, path))
    )
    options = ["--environment-parameters", "corridor_length=3,7", "--output", str(path)]
    assert main(["evaluate", str(run), *options]) == 0
    told = capsys.readouterr().out
    evaluations = json.loads(path.read_text())["evaluations"]
    assert [part["environment_parameters"]["corridor_length"] for part in evaluations] == [3, 7]
    for part in evaluations:
        (model,) = part["models"]
        assert f"{model['mean_return']:.3f}" in told
    assert f"picture: {tmp_path / 'results.png'}\n" in told
    assert (tmp_path / "results.png").is_file()
    (figure,) = figures
    (axes,) = figure.axes
    title = axes.get_title().replace("\n", " ")
    assert title == (
        "ppo trained on memory::TMazePassive corridor_length=3 mean, worst and best of 2 seeds"
    )
    assert axes.get_xlabel() == "corridor_length"


def test_parameters_that_change_the_observation_are_refused(tmp_path, capsys, as_a_user):
    folder = tmp_path / "run"
    options = [*OPTIONS[2:-2], "--environment-parameters", "board_size=8"]
    options += ["--environment", "memory::BattleshipEasy"]
    assert main(["train", *options, "--run-folder", str(folder)]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(folder), "--environment-parameters", "board_size=10"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "environment_parameters must leave the action space as it was in training" in line
