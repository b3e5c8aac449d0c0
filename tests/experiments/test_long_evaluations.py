"""Evaluations of episodes that are long, or never end."""

import contextlib
import io
import json
import os
import signal
import time

import numpy as np
import pytest
from rich.console import Console

from memorax.environments.processes import pool as process_pool
from memorax.experiments.cli.command_line import main
from memorax.experiments.run import evaluation
from memorax.experiments.run.console import make_console, waiting_line
from memorax.experiments.run.evaluation import EvaluationProgress

SMALL = (
    *("--features", "4", "--num-envs", "4", "--num-steps", "4", "--total-steps", "32"),
    *("--num-seeds", "2", "--evaluation-episodes", "3", "--torso", "mlp", "--loggers", "csv"),
)
REPLAY = ("--sequence-length", "4", "--batch-size", "2", "--buffer-size", "64")
OPTIONS = {
    "ppo": (),
    "dqn": REPLAY,
    "sac": (*REPLAY, "--environment", "gymnax::Pendulum-v1", "--environment-parameters"),
}
# Its episodes never end.
ENDLESS = ("--environment", "gymnasium::tests.environments.counting:Filling-v0")


def train(folder, *options):
    return main(["train", *SMALL, *options, "--run-folder", str(folder)])


def evaluated(folder):
    (model,) = json.loads((folder / "evaluation.json").read_text())
    return model


@pytest.fixture
def interrupted(monkeypatch):
    """Return a list; each signal in it is sent in the middle of an evaluation."""
    update, signals = EvaluationProgress.update, []

    def update_and_interrupt(self, *arguments):
        update(self, *arguments)
        if signals:
            os.kill(os.getpid(), signals.pop())

    monkeypatch.setattr(EvaluationProgress, "update", update_and_interrupt)
    return signals


@pytest.mark.extra("gymnasium")
def test_episodes_are_cut_off_at_the_limit_and_it_is_told_how_many(tmp_path, capsys):
    folder = tmp_path / "run"
    # An episode has five steps.
    options = ("--environment", "gymnasium::tests.environments.counting:Counting-v0")
    assert train(folder, *options, "--evaluation-steps", "4") == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "mlp: 0 of 6 evaluation episodes ended; the other 6 were truncated after 4 steps" in told
    reached = evaluated(folder)
    assert (reached["max_steps"], reached["num_ended"], reached["num_cut_off"]) == (4, 0, 6)
    assert (
        "mlp, sampled actions: 0 of 6 evaluation episodes ended; the other 6 were truncated" in told
    )
    assert (reached["sampled"]["num_ended"], reached["sampled"]["num_cut_off"]) == (0, 6)
    assert main(["evaluate", str(folder), "--evaluation-steps", "5"]) == 0
    assert "truncated" not in capsys.readouterr().out
    assert main(["evaluate", str(folder), "--evaluation-steps", "0"]) == 2
    assert "evaluation_steps must be an integer from 1 to" in capsys.readouterr().err


@pytest.mark.extra("gymnasium")
def test_ctrl_c_in_the_evaluation_of_endless_episodes_keeps_what_was_trained(
    tmp_path, capsys, interrupted
):
    folder = tmp_path / "run"
    options = (*ENDLESS, "--evaluation-steps", str(10**9))
    before = set(process_pool._places)
    interrupted.append(signal.SIGINT)
    assert train(folder, *options) == 130
    told = " ".join(capsys.readouterr().out.split())
    assert "interrupted: mlp in its evaluation, at 32 of 32 steps is kept" in told
    assert "--resume" in told
    assert (folder / "checkpoints" / "mlp" / "32").is_dir()
    assert not (folder / "evaluation.json").exists()
    assert set(process_pool._places) == before, "its environments' processes have ended"
    config = folder / "config.json"
    config.write_text(config.read_text().replace(str(10**9), "7"))
    assert main(["train", "--run-folder", str(folder), "--resume"]) == 0
    assert evaluated(folder)["num_cut_off"] == 6


@pytest.mark.exhaustive
@pytest.mark.parametrize("algorithm", OPTIONS)
def test_an_interrupted_evaluation_is_repeated_by_resuming(algorithm, tmp_path, interrupted):
    folder = tmp_path / "run"
    assert train(folder, "--algorithm", algorithm, *OPTIONS[algorithm]) == 0
    straight = (folder / "evaluation.json").read_text()
    assert evaluated(folder)["num_ended"] == 6
    (folder / "evaluation.json").unlink()
    resume = ["train", "--run-folder", str(folder), "--resume"]
    interrupted.append(signal.SIGTERM)
    assert main(resume) == 143
    assert not (folder / "evaluation.json").exists()
    assert main(resume) == 0
    assert (folder / "evaluation.json").read_text() == straight


@pytest.mark.exhaustive
def test_an_interrupted_evaluation_of_a_sweep_is_repeated_by_resuming(
    tmp_path, capsys, interrupted
):
    folder = tmp_path / "sweep"
    command = ["sweep", *SMALL, "--search", "learning-rate=1e-3,1e-2", "--trials-at-once", "2"]
    command += ["--environment-parameters", "memory_length=9", "--evaluation-steps", "3"]
    command += ["--num-trials", "2"]
    interrupted.append(signal.SIGINT)
    assert main([*command, "--sweep-folder", str(folder)]) == 130
    assert not list(folder.glob("trials/*/evaluation.json"))
    assert len(list(folder.glob("trials/*/checkpoints/mlp/32"))) == 2
    assert main([*command, "--sweep-folder", str(folder), "--resume"]) == 0
    rows = json.loads((folder / "results.json").read_text())["rows"]
    assert [row["num_cut_off"] for row in rows] == [6, 6]
    told = " ".join(capsys.readouterr().out.split())
    for trial in ("000", "001"):
        assert f"{trial}: 0 of 6 evaluation episodes ended; the other 6 were truncated" in told
    assert main(["report", str(folder)]) == 0
    assert "were truncated after 3 steps" in (folder / "report.html").read_text()


@pytest.mark.exhaustive
def test_a_comparison_tells_of_episodes_that_were_cut_off(tmp_path, capsys):
    folder = tmp_path / "comparison"
    command = ["compare", "--torsos", "mlp", "--environments"]
    command += ["gymnax::MemoryChain-bsuite memory_length=2", "gymnax::MemoryChain-bsuite"]
    command += [option for option in SMALL if option not in ("--torso", "mlp")]
    command += ["--ppo.num-envs", "4", "--ppo.num-steps", "4", "--evaluation-steps", "4"]
    for name in ("--num-envs", "--num-steps"):
        index = command.index(name)
        del command[index : index + 2]
    assert main([*command, "--comparison-folder", str(folder)]) == 0
    rows = json.loads((folder / "results.json").read_text())["rows"]
    assert [(row["num_ended"], row["num_cut_off"]) for row in rows] == [(6, 0), (0, 6)]
    note = "mlp on gymnax::MemoryChain-bsuite: 0 of 6 evaluation episodes ended; the other 6 were"
    assert note in " ".join(capsys.readouterr().out.split())
    assert note in (folder / "table.md").read_text()
    assert main(["report", str(folder)]) == 0
    assert note in (folder / "report.html").read_text()


def test_where_nobody_watches_a_line_now_and_then_tells_how_an_evaluation_goes(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(evaluation, "SECONDS_BETWEEN_LINES", -1)
    config = evaluation.TrainConfig(evaluation_steps=2000)
    progress = EvaluationProgress("gru", config, make_console())
    progress.update(1024, np.array([[True, False], [True, True]]))
    progress.close()
    told = capsys.readouterr().out
    assert told == "gru: evaluation: 3 of 4 episodes ended, step 1,024 of at most 2,000\n"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (
            lambda console: waiting_line(console, "gru: compiling the first state"),
            "gru: compiling the first state, 12 s",
        ),
        (
            lambda console: EvaluationProgress("gru", evaluation.TrainConfig(), console),
            "compiling, 12 s",
        ),
    ],
    ids=["first state", "evaluation"],
)
def test_a_terminal_shows_the_seconds_that_compiling_takes(line, shown):
    clock, terminal = [0.0], io.StringIO()
    console = Console(
        file=terminal, force_terminal=True, width=80, get_time=lambda: clock[0], color_system=None
    )
    with contextlib.ExitStack() as opened:
        progress = line(console)
        if isinstance(progress, EvaluationProgress):
            opened.callback(progress.close)
        else:
            opened.enter_context(progress)
        clock[0] = 12.4
        until = time.monotonic() + 10
        while shown not in terminal.getvalue() and time.monotonic() < until:
            time.sleep(0.05)
    assert shown in terminal.getvalue()
