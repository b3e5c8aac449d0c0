"""Every suite trains from the command line."""

import json

import numpy as np
import pytest

from memorax.catalog.suites import Suite
from memorax.environments import SUITES, names
from memorax.experiments.cli.command_line import main
from memorax.experiments.run.folder import RunFolder, number_in, read_metrics
from memorax.installed_package import install_command

# The cheapest task of each suite; what is given is to end episodes soon.
TASKS = {
    "ale": ("Pong-v5", "obs_type=ram", "max_episode_steps=200"),
    "brax": ("inverted_pendulum", "backend=spring", "episode_length=50"),
    "craftax": ("Craftax-Classic-Symbolic-v1", "max_timesteps=100"),
    "gymnasium": ("CartPole-v1",),
    "gymnax": ("CartPole-v1",),
    "jumanji": ("Snake-v1", "num_rows=4", "num_cols=4"),
    "memory": ("RepeatFirstEasy",),
    "minigrid": ("MiniGrid-Empty-5x5-v0", "max_steps=50"),
    "navix": ("Navix-Empty-5x5-v0", "max_steps=50"),
    "popgym": ("RepeatFirstEasy",),
    "xminigrid": ("MiniGrid-Empty-5x5", "max_steps=50"),
}
SMALL = (
    *("--features", "4", "--num-envs", "32", "--num-steps", "32", "--num-minibatches", "1"),
    *("--update-epochs", "1", "--no-memoryless-twin"),
)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "suite", [pytest.param(suite, marks=pytest.mark.extra(suite)) for suite in TASKS]
)
def test_ppo_trains_ten_thousand_steps_of(suite, tmp_path):
    name, *params = TASKS[suite]
    command = ["train", *SMALL, "--environment", f"{suite}::{name}", "--num-seeds", "1"]
    command += ["--total-steps", "10000", "--evaluation-episodes", "1"]
    command += ["--environment-parameters", *params] if params else []
    assert main([*command, "--run-folder", str(tmp_path / "run")]) == 0
    rows = read_metrics(RunFolder(tmp_path / "run"))
    assert int(rows[-1]["step"]) >= 10_000
    assert sum(int(row["num_episodes"]) for row in rows) > 0
    losses = [number_in(row[key]) for row in rows for key in row if "loss" in key]
    assert losses
    assert np.isfinite(losses).all()
    (evaluation,) = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert np.isfinite(evaluation["mean_return"])


def test_no_suite_is_left_out():
    assert set(TASKS) == set(SUITES)


@pytest.mark.exhaustive
@pytest.mark.extra("gymnasium")
def test_a_dying_environment_ends_the_run_which_goes_on_from_its_checkpoint(tmp_path, capsys):
    folder, flaw = tmp_path / "run", tmp_path / "flaw"
    command = ["train", *SMALL, "--run-folder", str(folder), "--num-seeds", "2"]
    command += ["--environment", "gymnasium::tests.environments.counting:Counting-v0"]
    command += ["--environment-parameters", "failure=error", f"while_there={flaw}"]
    command += ["--num-envs", "2", "--num-steps", "4", "--total-steps", "64"]
    command += ["--evaluation-episodes", "2", "--checkpoint-every", "32"]

    from memorax.experiments.loggers.progress_bar import ProgressBar

    log = ProgressBar.log

    def log_until_it_fails(self, steps, *arguments):
        log(self, steps, *arguments)
        if steps[-1] > 32:
            flaw.touch()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ProgressBar, "log", log_until_it_fails)
        assert main(command) == 1
    error = capsys.readouterr().err
    assert "RuntimeError: three is too much" in error
    assert "counting.py" in error
    assert f"last good state: checkpoint of step 32 in {folder}" in error
    assert (folder / "checkpoints" / "gru" / "32").is_dir()
    flaw.unlink()
    assert main(["train", "--run-folder", str(folder), "--resume"]) == 0
    assert "each begins a new episode" in " ".join(capsys.readouterr().out.split())
    assert max(int(row["step"]) for row in read_metrics(RunFolder(folder))) == 64


def test_environments_lists_suites_and_names(capsys):
    assert main(["environments"]) == 0
    told = capsys.readouterr().out
    assert all(f"\n{suite} " in f"\n{told}" for suite in SUITES)
    assert main(["environments", "gymnax::*chain*"]) == 0
    chains = [name for name in names("gymnax") if "chain" in name.lower()]
    assert capsys.readouterr().out.split() == sorted(f"gymnax::{name}" for name in chains)
    assert main(["environments", "no such thing"]) == 2
    assert "no such thing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pattern", "closest"),
    [
        ("memory::*Easyy", "memory::"),
        ("memry", "memory"),
        ("memry::*", "memory"),
        ("RepeatFrstEasy", "RepeatFirstEasy"),
    ],
)
def test_a_pattern_without_a_match_is_told_with_the_closest(pattern, closest, capsys, monkeypatch):
    for other in SUITES.keys() - {"memory"}:
        monkeypatch.delitem(SUITES, other)
    assert main(["environments", pattern]) == 2
    told = capsys.readouterr().err
    assert f"matches {pattern!r}; the closest are: {closest}" in told


@pytest.mark.parametrize(
    ("broken", "cause"),
    [
        ("raise ImportError('no such version')", "ImportError: no such version"),
        ("import jax; jax.no_such_thing", "AttributeError: "),
        ("import memorax.no_such_thing", "ModuleNotFoundError: "),
    ],
)
def test_a_broken_suite_is_told_and_leaves_the_others(broken, cause, capsys, monkeypatch, tmp_path):
    (tmp_path / "broken_suite.py").write_text(broken)
    monkeypatch.syspath_prepend(tmp_path)
    for other in SUITES.keys() - {"memory"}:
        monkeypatch.delitem(SUITES, other)
    monkeypatch.setitem(SUITES, "navix", Suite("broken_suite", extra="navix"))
    told = f"navix cannot be imported: {cause}"
    assert main(["environments", "RepeatFirst"]) == 0
    printed = capsys.readouterr()
    assert "memory::RepeatFirstEasy" in printed.out
    assert told in printed.err
    assert main(["train", "--environment", "navix::Navix-Empty-5x5-v0"]) == 2
    assert f"memorax: error: {told}" in capsys.readouterr().err


def test_what_is_not_installed_is_told_with_its_extra(capsys, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "navix", None)
    monkeypatch.delitem(sys.modules, "memorax.environments.suites.navix_adapter", raising=False)
    assert main(["environments"]) == 0
    assert install_command("navix") in capsys.readouterr().out
    assert main(["train", "--environment", "navix::Navix-Empty-5x5-v0"]) == 2
    assert install_command("navix") in capsys.readouterr().err
