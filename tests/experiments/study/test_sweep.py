import csv
import dataclasses
import json
import os
import shlex
import shutil
import signal
from functools import partial
from html.parser import HTMLParser

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax.catalog.algorithms import ALGORITHMS
from memorax.experiments.cli.command_line import main
from memorax.experiments.run.agents import make_agent
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.folder import RunFolder, read_metrics
from memorax.experiments.run.recorder import Recorder
from memorax.experiments.study import proposals
from memorax.experiments.study.traced_hyperparameters import agent_with, numbers_of, traceable

pytestmark = pytest.mark.exhaustive

SMALL = (
    *("--environment-parameters", "memory_length=3", "--features", "8", "--num-envs", "4"),
    *("--num-steps", "8", "--num-minibatches", "2", "--update-epochs", "1"),
    *("--total-steps", "128", "--num-seeds", "2", "--evaluation-episodes", "4"),
    *("--checkpoint-every", "64", "--loggers", "csv"),
)
# Two at once, in one program.
SEARCH = ("--search", "learning-rate=log:1e-3:1e-2", "gae-lambda=0.9,0.5", "--num-trials", "3")


def sweep(folder, *options):
    return main(["sweep", *SMALL, *options, "--sweep-folder", str(folder)])


def rows_of(folder):
    rows = json.loads((folder / "results.json").read_text())["rows"]
    return [{key: value for key, value in row.items() if "second" not in key} for row in rows]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweeps") / "finished"
    assert sweep(folder, *SEARCH, "--trials-at-once", "2") == 0
    return folder


def test_every_trial_is_a_run_and_a_row_the_best_first(finished, capsys):
    rows = rows_of(finished)
    assert sorted(row["trial"] for row in rows) == ["000", "001", "002"]
    reached = [row["interquartile_mean"] for row in rows]
    assert reached == sorted(reached, reverse=True)
    for row in rows:
        folder = finished / "trials" / row["trial"]
        (evaluation,) = json.loads((folder / "evaluation.json").read_text())
        assert evaluation["seed_returns"] == row["seed_values"]
        config = RunFolder(folder).config()
        assert config.learning_rate == row["values"]["learning-rate"]
        assert config.algorithm.gae_lambda == row["values"]["gae-lambda"]
    with (finished / "table.csv").open() as file:
        assert [row["trial"] for row in csv.DictReader(file)] == [row["trial"] for row in rows]
    assert main(["evaluate", str(finished / "trials" / "001")]) == 0
    (told,) = (row["seed_values"] for row in rows if row["trial"] == "001")
    assert ", ".join(f"{value:.3f}" for value in told) in capsys.readouterr().out


def test_a_trial_beside_others_learns_what_it_would_learn_alone(finished, tmp_path):
    best = json.loads((finished / "results.json").read_text())
    folder = tmp_path / "alone"
    assert main([*shlex.split(best["best"])[1:], "--run-folder", str(folder)]) == 0
    trial = RunFolder(finished / "trials" / best["rows"][0]["trial"])
    assert RunFolder(folder).config() == trial.config()
    pairs = zip(read_metrics(RunFolder(folder)), read_metrics(trial), strict=True)
    for alone, beside in pairs:
        assert [alone[name] for name in ("seed", "step")] == [beside["seed"], beside["step"]]
        for name in alone.keys() - {"model"}:
            np.testing.assert_allclose(
                float(alone[name]), float(beside[name]), rtol=1e-5, atol=1e-5, err_msg=name
            )


def test_a_sweep_goes_on_where_it_stopped(finished, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "stopped"
    shutil.copytree(finished, folder)
    trials = folder / "trials"
    kept = (trials / "000" / "trial.json").stat().st_mtime_ns
    # As if it had been killed: in one trial before its evaluation, before another one began.
    for name in ("trial.json", "evaluation.json"):
        (trials / "001" / name).unlink()
    shutil.rmtree(trials / "002")
    (folder / "results.json").unlink()
    assert main(["report", str(folder)]) == 2
    assert "no results yet" in capsys.readouterr().err
    log, interrupted = Recorder.log, []

    def log_and_interrupt(self, *arguments):
        log(self, *arguments)
        if not interrupted:
            interrupted.append(os.kill(os.getpid(), signal.SIGINT))

    monkeypatch.setattr(Recorder, "log", log_and_interrupt)
    resume = ["sweep", "--sweep-folder", str(folder), "--resume"]
    assert main(resume) == 130
    assert (trials / "002" / "checkpoints" / "gru" / "32").is_dir()
    assert main(resume) == 0
    assert (trials / "000" / "trial.json").stat().st_mtime_ns == kept
    assert rows_of(folder) == rows_of(finished)
    for name in ("001", "002"):
        metrics = [RunFolder(path / "trials" / name) for path in (folder, finished)]
        assert read_metrics(metrics[0]) == read_metrics(metrics[1])
    assert main([*resume, "--learning-rate", "1"]) == 2
    assert "learning_rate is 0.001, got 1.0" in capsys.readouterr().err
    assert main([*resume, "--algorithm", "dqn"]) == 2
    assert "algorithm is 'ppo', got 'dqn'" in capsys.readouterr().err
    assert sweep(folder, *SEARCH) == 2
    assert "exists" in capsys.readouterr().err


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.sources, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.text += data


def test_the_report_is_one_page_with_every_trial_and_the_best_command(finished, capsys):
    assert main(["report", str(finished)]) == 0
    path = finished / "report.html"
    assert capsys.readouterr().out.strip() == str(path)
    page = Page()
    page.feed(path.read_text())
    assert len(page.sources) == 2
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert "http" not in path.read_text()
    assert json.loads((finished / "results.json").read_text())["best"] in page.text
    for row in rows_of(finished):
        assert f"{row['values']['learning-rate']:.4g}" in page.text


def test_trials_that_are_pruned_or_diverge_leave_the_others_alone(tmp_path, monkeypatch, capsys):
    def fall_behind(reports, finished):
        return len(reports) >= 5

    def only_the_second(self, index, reports, finished):
        return index == 1 and fall_behind(reports, finished)

    monkeypatch.setattr(proposals.IndependentProposals, "should_stop", only_the_second)
    folder = tmp_path / "sweep"
    options = ("--search", "learning-rate=2e-3,1e-3,1e38", "--max-gradient-norm", "1e38")
    assert sweep(folder, *options, "--method", "grid", "--prune", "median") == 0
    finished, pruned, diverged = rows_of(folder)
    assert [row["outcome"] for row in (finished, pruned, diverged)] == [
        "finished",
        "pruned",
        "diverged",
    ]
    assert finished["trial"] == "000"
    assert "is not finite at step" in diverged["why"]
    assert pruned["why"] == "pruned at step 64"
    assert (folder / "trials" / "001" / "checkpoints" / "gru" / "64").is_dir()
    steps = {int(row["step"]) for row in read_metrics(RunFolder(folder / "trials" / "000"))}
    assert max(steps) == 128
    assert main(["report", str(folder)]) == 0


SHORT_REPLAY = {
    **{"num_envs": 2, "sequence_length": 4, "batch_size": 2},
    **{"buffer_size": 64, "learning_starts": 8},
}
TINY = {
    "ppo": {"num_envs": 2, "num_minibatches": 1, "update_epochs": 1, "target_kl": 0.5},
    "dqn": SHORT_REPLAY,
    "r2d2": {
        "num_envs": 2,
        **{"sequence_length": 8, "burn_in_length": 2, "n_step": 2, "batch_size": 2},
        **{"buffer_size": 64, "learning_starts": 16, "target_update_period": 2},
    },
    "pqn": {"num_envs": 2, "num_minibatches": 1, "update_epochs": 1},
    "sac": SHORT_REPLAY,
    "td3": SHORT_REPLAY,
    "streaming_ac": {},
}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_number_that_is_an_argument_does_what_a_constant_does(name, as_a_user):
    environment = "gymnax::Pendulum-v1" if name in ("sac", "td3") else "memory::MemoryChain"
    algorithm = ALGORITHMS[name].config(num_steps=4, **TINY[name])
    torso = "gru" if ALGORITHMS[name].has_optimizer else "rtu"
    config = TrainConfig(
        *(environment, None, torso), algorithm=algorithm, features=8, memoryless_twin=False
    )
    real = ["learning-rate", "max-gradient-norm"] if ALGORITHMS[name].has_optimizer else []
    real += [
        field.name.replace("_", "-")
        for field in dataclasses.fields(algorithm)
        if isinstance(getattr(algorithm, field.name), float)
    ]
    flags = traceable(config, real)
    assert set(flags) == set(real)

    def train(make, key):
        agent = make()
        state = agent.init(key)
        return agent.train(key, state, 8 * agent.steps_per_update)[1]

    key = jax.random.key(0)
    numbers = jax.tree.map(lambda values: values[0], numbers_of([config], flags))
    given = jax.jit(lambda numbers: train(partial(agent_with, config, numbers), key))(numbers)
    known = jax.jit(lambda: train(partial(make_agent, config, torso), key))()
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), given, known)
    # And it does something: with another one something else is learned.
    changed = "learning-rate" if ALGORITHMS[name].has_optimizer else "critic-kappa"
    other = jax.jit(lambda numbers: train(partial(agent_with, config, numbers), key))(
        numbers | {changed: jnp.float32(0.1)}
    )
    losses = [key for key in given if "loss" in key]
    assert any(not np.allclose(given[key], other[key], equal_nan=True) for key in losses)
