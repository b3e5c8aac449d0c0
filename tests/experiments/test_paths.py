"""What is written is read back from any path, and printed as it is."""

import io
import json
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from memorax import __main__
from memorax.experiments.cli.command_line import main
from memorax.experiments.play.episode import Episode, Moment
from memorax.experiments.play.terminal import show
from memorax.experiments.run.checkpoints import CheckpointError, Checkpoints
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.console import make_console, resume_command
from memorax.experiments.run.evaluation import Evaluation, Returns, table
from memorax.experiments.run.folder import RunFolder
from memorax.experiments.study.comparison_config import CompareConfig
from memorax.experiments.study.comparison_table import make_table
from memorax.experiments.study.plots import plot_learning_curves

NAMES = [
    *(
        "a[1]",
        "x[/b]",
        "[bold]x",
        "a b",
        " a ",
        "Größe",
        "漢字\u3000二",
        "100%20%",
        "l" * 200,
        "-d",
    ),
    *(
        "-d",
        "a\\b",
        "a\nb",
        "'\"",
        "~",
        "$HOME$",
        "#?&;|{}",
        "gs:/bucket",
        "file:",
        "**",
        ":smile:",
    ),
]
TINY = (
    *("--environment-parameters", "memory_length=3", "--features", "4", "--num-envs", "2"),
    *("--num-steps", "4", "--num-minibatches", "1", "--update-epochs", "1", "--total-steps", "8"),
    *("--num-seeds", "1", "--evaluation-episodes", "2", "--no-memoryless-twin"),
)


@pytest.mark.parametrize("name", NAMES)
def test_checkpoints_are_read_back_from_any_path(name, tmp_path):
    path = tmp_path / name
    path.mkdir(parents=True)
    state = {"weights": jnp.arange(3.0), "step": jnp.int32(4)}
    checkpoints = Checkpoints(RunFolder(path), "gru", keep=1)
    for step, episode_return in ((1, 2.0), (2, 1.0), (3, 0.0)):
        checkpoints.save(step, {**state, "step": jnp.int32(step)}, episode_return)
    checkpoints.close()
    assert {entry.name for entry in (path / "checkpoints" / "gru").glob("[0-9]*")} == {"1", "3"}
    for choice, expected in (("last", 3), ("best", 1)):
        checkpoints = Checkpoints(RunFolder(path), "gru")
        step, restored = checkpoints.restore(state, choice)
        checkpoints.close()
        assert (step, int(restored["step"])) == (expected, expected)
        np.testing.assert_array_equal(restored["weights"], state["weights"])


def test_damage_is_reported_by_the_path_that_the_user_gave(tmp_path):
    path = tmp_path / "a[1]"
    path.mkdir()
    checkpoints = Checkpoints(RunFolder(path), "gru", keep=1)
    checkpoints.save(1, {"weights": jnp.arange(3.0)})
    checkpoints.close()
    (path / "checkpoints/gru/1/default/manifest.ocdbt").write_bytes(b"")
    with pytest.raises(CheckpointError) as refused:
        Checkpoints(RunFolder(path), "gru").restore({"weights": jnp.arange(3.0)})
    assert str(path / "checkpoints/gru/1") in str(refused.value)


@pytest.mark.exhaustive
def test_a_run_in_any_path_is_printed_whole_evaluated_and_resumed(tmp_path, capsys, monkeypatch):
    path = tmp_path / f"x[/b] :smile: [bold]漢%20 {'l' * 90}"
    assert main(["train", *TINY, "--run-folder", str(path)]) == 0
    assert f"run folder: {path}\n" in capsys.readouterr().out
    assert main(["evaluate", str(path)]) == 0
    returns = json.loads((path / "evaluation.json").read_text())[0]["seed_returns"]
    assert f"{returns[0]:.3f}" in capsys.readouterr().out
    # A terminal that has no such characters is no reason to fail.
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    arguments = ["memorax", "train", "--run-folder", str(path), "--resume"]
    monkeypatch.setattr(sys, "argv", arguments)
    assert __main__.main() == 0
    stdout.flush()
    shown = stdout.buffer.getvalue().decode()
    escaped = str(path).replace("漢", "\\u6f22")
    assert f"run folder: {escaped}\n" in shown


def test_a_path_that_is_no_text_is_refused_before_anything_is_made(tmp_path, capsys):
    assert main(["train", *TINY, "--run-folder", f"{tmp_path}/v\udcff"]) == 2
    assert "run folder must be a path in UTF-8, got " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("path", "word"), [("runs/a b", "'runs/a b'"), ("-d", "./-d"), ("it's", "'it'\"'\"'s'")]
)
def test_the_command_to_resume_by_is_one_that_a_shell_understands(path, word):
    shown = resume_command("memorax train --run-folder", Path(path))
    assert shown == f"memorax train --run-folder {word} --resume"


def test_names_with_brackets_are_shown_as_they_are_in_every_table(capsys, monkeypatch):
    config = TrainConfig(environment="memory::[/b]:smile:[bold]", environment_parameters=())
    reached = Returns([0.5], 0.5, 0.1, 0.9, 1, 0)
    evaluation = Evaluation(
        **vars(reached),
        model="[/i]",
        num_parameters=1,
        carry_bytes=1,
        num_episodes=1,
        max_steps=100,
        sampled=reached,
        best_seed_returns=[0.5],
        best_return=0.5,
    )
    make_console().print(table(config, [evaluation]))
    shown = capsys.readouterr().out
    assert "memory::[/b]:smile:[bold]" in shown
    assert "[/i]" in shown
    assert "[0.100, 0.900]" in shown
    diverged = {"gru on memory::[/b]": "[/red] it is"}
    make_console().print(make_table(CompareConfig(), [], diverged).rich())
    assert "Left out: gru on memory::[/b]: [/red] it is" in capsys.readouterr().out
    moment = Moment("[/seen]", None, np.array(1), 0.0, 0.0)
    episode = Episode("memory::[/b]", [moment], np.zeros((1, 1)), ended=True)
    show([episode], "[/model]", make_console(), frames_per_second=1000)
    shown = capsys.readouterr().out
    assert "memory::[/b], memory of [/model]" in shown
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    show([episode], "[/model]", make_console(), frames_per_second=1000)
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("memory::[/b]", "[/seen]", "memory of [/model]"))
    assert main(["environments"]) == 0
    assert "\\" not in capsys.readouterr().out


def test_names_with_dollar_signs_are_drawn_as_they_are(tmp_path):
    curves = np.arange(2), np.zeros((1, 2))
    plot_learning_curves(tmp_path / "curves.png", {"cost=$\\frac$": {"$x_$ on gru": curves}})
    assert (tmp_path / "curves.png").is_file()
