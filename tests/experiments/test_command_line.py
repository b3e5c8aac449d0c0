import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from memorax.catalog.algorithms import ALGORITHMS
from memorax.experiments.cli.command_line import main
from memorax.experiments.loggers.progress_bar import ProgressBar
from memorax.experiments.run.checkpoints import Checkpoints
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.folder import RunFolder, number_in, read_curves, read_metrics
from memorax.experiments.run.training import make_agents, restore

# Small, but with all there is: two seeds, several pieces, episodes that end inside a rollout.
SMALL = (
    *("--environment-parameters", "memory_length=3", "--features", "8", "--num-envs", "4"),
    *("--num-steps", "8", "--num-minibatches", "2", "--update-epochs", "1"),
    *("--total-steps", "192", "--num-seeds", "2", "--evaluation-episodes", "8"),
    *("--checkpoint-every", "64"),
)


def train(folder, *options):
    return main(["train", *SMALL, "--run-folder", str(folder), *options])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the folder of a run that went to its end."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    assert train(folder) == 0
    return folder


def test_a_run_leaves_everything_in_its_folder(finished):
    assert {path.name for path in finished.iterdir()} == {
        "config.json",
        "metrics.csv",
        "tensorboard",
        "learning_curve.png",
        "checkpoints",
        "evaluation.json",
        "timing.json",
    }
    for model in ("gru", "mlp"):
        assert list((finished / "tensorboard" / model).glob("events*"))
        assert (finished / "checkpoints" / model / "192").is_dir()
    rows = read_metrics(RunFolder(finished))
    assert {(row["model"], row["seed"]) for row in rows} == {
        (model, seed) for model in ("gru", "mlp") for seed in "01"
    }
    assert sorted({int(row["step"]) for row in rows}) == [32, 64, 96, 128, 160, 192]
    gru, mlp = json.loads((finished / "evaluation.json").read_text())
    assert (gru["model"], mlp["model"]) == ("gru", "mlp")
    assert gru["num_parameters"] > mlp["num_parameters"]
    assert gru["low"] <= gru["mean_return"] <= gru["high"]
    assert gru["sampled"]["low"] <= gru["sampled"]["mean_return"] <= gru["sampled"]["high"]
    of_first_seed = [row for row in rows if (row["model"], row["seed"]) == ("gru", "0")]
    # Fewer than 100 episodes: the mean of all of them.
    returns, weights = (
        [float(row[name]) for row in of_first_seed if row["num_episodes"] != "0"]
        for name in ("episode_return", "num_episodes")
    )
    assert gru["best_seed_returns"][0] == pytest.approx(np.average(returns, weights=weights))
    assert gru["best_return"] == pytest.approx(np.mean(gru["best_seed_returns"]))


def test_evaluate_repeats_the_numbers_in_a_new_process(finished, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "memorax", "evaluate", str(finished)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"COLUMNS": "200", "XDG_CACHE_HOME": str(tmp_path)},
    )
    for evaluation in json.loads((finished / "evaluation.json").read_text()):
        (line,) = (line for line in done.stdout.splitlines() if f" {evaluation['model']} " in line)
        assert ", ".join(f"{value:.3f}" for value in evaluation["seed_returns"]) in line
        assert f"[{evaluation['low']:.3f}, {evaluation['high']:.3f}]" in line
        sampled, best = evaluation["sampled"]["mean_return"], evaluation["best_return"]
        assert line.replace("│", " ").split()[-2:] == [f"{sampled:.3f}", f"{best:.3f}"]


def test_the_best_checkpoint_is_the_one_after_the_greatest_return(finished):
    folder = RunFolder(finished)
    for model, (steps, returns) in read_curves(folder).items():
        means = dict(zip(steps.tolist(), returns.mean(axis=0), strict=True))
        saved = [step for step in (64, 128, 192) if not np.isnan(means[step])]
        best = Checkpoints(folder, model).best_step
        assert best == max(reversed(saved), key=lambda step, means=means: means[step])
        assert (finished / "checkpoints" / model / str(best)).is_dir()


@pytest.mark.exhaustive
def test_an_interrupted_run_keeps_what_it_reached_and_resumes_to_the_same_end(
    finished, tmp_path, capsys, monkeypatch
):
    folder = tmp_path / "interrupted"
    log, signals = ProgressBar.log, []

    def log_and_interrupt(self, *arguments):
        log(self, *arguments)
        if signals:
            os.kill(os.getpid(), signals.pop())

    monkeypatch.setattr(ProgressBar, "log", log_and_interrupt)
    signals.append(signal.SIGINT)
    assert train(folder) == 130
    told = " ".join(capsys.readouterr().out.split())
    assert "gru at 32 of 192 steps is kept" in told
    assert "--resume" in told
    assert (folder / "checkpoints" / "gru" / "32").is_dir()
    assert len(read_metrics(RunFolder(folder))) == 2
    signals.append(signal.SIGTERM)
    assert main(["train", "--run-folder", str(folder), "--resume"]) == 143
    assert "gru at 64 of 192 steps is kept" in " ".join(capsys.readouterr().out.split())
    assert main(["train", "--run-folder", str(folder), "--resume"]) == 0
    assert (folder / "evaluation.json").read_text() == (finished / "evaluation.json").read_text()
    assert read_metrics(RunFolder(folder)) == read_metrics(RunFolder(finished))
    config = RunFolder(folder).config()
    for name, agent in make_agents(config).items():
        states = [restore(config, name, agent, RunFolder(path)) for path in (folder, finished)]
        jax.tree.map(np.testing.assert_array_equal, *states)


@pytest.mark.parametrize("episodes", ["0", "-3", "100000000000000"])
def test_evaluating_by_no_episodes_or_too_many_is_refused(episodes, finished, capsys):
    assert main(["evaluate", str(finished), "--evaluation-episodes", episodes]) == 2
    told = capsys.readouterr().err
    assert f"evaluation_episodes must be an integer from 1 to 1048576, got {episodes}" in told


def test_a_run_is_no_comparison(finished, capsys):
    for command in (["report"], ["compare", "--resume", "--comparison-folder"]):
        assert main([*command, str(finished)]) == 2
        (told,) = capsys.readouterr().err.splitlines()
        assert "is not a comparison folder: its config.json has no environments" in told


def test_a_checkpoint_of_another_configuration_is_refused(finished, tmp_path, capsys):
    folder = tmp_path / "older"
    shutil.copytree(finished, folder)
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"features": 8', '"features": 4'))
    for command in (["evaluate", str(folder)], ["train", "--run-folder", str(folder), "--resume"]):
        assert main(command) == 2
        first, *entries = capsys.readouterr().err.splitlines()
        assert first.endswith("checkpoints/gru/192 does not fit the configuration:")
        assert (
            "params/actor_critic/params/torso/layers_0/cell/hn/bias: checkpoint has float32 "
            "(2, 8), the configuration makes float32 (2, 4)"
        ) in entries


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("timing.json", '{"gru": 1}', "timing.json holds no times of models: "),
        ("metrics.csv", "model,seed\ngru,0\n", "metrics.csv holds no metrics of a run: 'step' is"),
    ],
)
def test_files_of_a_run_that_make_no_sense_are_told(
    name, text, message, finished, tmp_path, capsys
):
    folder = tmp_path / "odd"
    shutil.copytree(finished, folder)
    (folder / name).write_text(text)
    # So that there is something left to train.
    for model in ("gru", "mlp"):
        shutil.rmtree(folder / "checkpoints" / model)
    assert main(["train", "--run-folder", str(folder), "--resume"]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert message in error


def test_a_run_folder_is_never_overwritten(finished, capsys):
    before = (finished / "metrics.csv").stat().st_mtime_ns
    assert train(finished) == 2
    error = capsys.readouterr().err
    assert str(finished) in error
    assert "--resume" in error
    assert (finished / "metrics.csv").stat().st_mtime_ns == before


def test_resuming_with_another_configuration_is_refused(finished, capsys):
    command = ["train", "--run-folder", str(finished), "--resume", "--learning-rate", "0.5"]
    assert main(command) == 2
    assert "configuration" in capsys.readouterr().err
    assert main(["train", "--resume"]) == 2
    assert "--run-folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ("--learning-rate", "0.5", "--seed", "7"),
            ("learning_rate is ", ", got 0.5", "seed is 0, g"),
        ),
        (("--gamma", "0.5"), ("algorithm.gamma is 0.99, got 0.5",)),
        (("--algorithm", "dqn"), ("algorithm is 'ppo', got 'dqn'",)),
        (("--total-steps", "64"), ("total_steps is 192, got 64", "can only grow")),
        (
            ("--total-steps", "999", "--seed", "7"),
            ("seed is 0, got 7", "total_steps is 192, got 9"),
        ),
    ],
)
def test_resuming_names_each_option_that_differs_old_and_new(options, words, finished, capsys):
    before = (finished / "config.json").read_text()
    assert main(["train", "--run-folder", str(finished), "--resume", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert all(word in line for word in words)
    assert (finished / "config.json").read_text() == before


@pytest.mark.exhaustive
def test_a_finished_run_trains_on_to_more_steps_and_may_be_interrupted_there(
    tmp_path, capsys, monkeypatch
):
    log, signals = ProgressBar.log, []

    def log_and_interrupt(self, *arguments):
        log(self, *arguments)
        if signals:
            os.kill(os.getpid(), signals.pop())

    monkeypatch.setattr(ProgressBar, "log", log_and_interrupt)
    folders = tmp_path / "straight", tmp_path / "interrupted"
    for folder in folders:
        # 101 updates, of which the longer run's pieces of 2 are no multiple.
        assert train(folder, "--total-steps", "3232", "--no-memoryless-twin") == 0
        more = ["train", "--run-folder", str(folder), "--resume"]
        capsys.readouterr()
        if folder.name == "interrupted":
            signals.append(signal.SIGINT)
            assert main([*more, "--total-steps", "3328"]) == 130
        else:
            assert main([*more, "--total-steps", "3328"]) == 0
        told = capsys.readouterr().out
        assert "total_steps: 3,232 until now, 3,328 from now on" in told
        assert "the learning rate falls to zero over all of them" in told
        assert main(more) == 0
        assert RunFolder(folder).config().total_steps == 3328
        steps = [int(row["step"]) for row in read_metrics(RunFolder(folder)) if row["seed"] == "0"]
        assert steps == list(range(32, 3329, 32))
    straight, interrupted = ((folder / "evaluation.json").read_text() for folder in folders)
    assert straight == interrupted


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("trian", "unknown command 'trian'; the closest are: train"),
        ("environments Foo Bar", "memorax environments takes one pattern, got 'Foo' and 'Bar'"),
        ("evaluate runs/a b", "memorax evaluate takes one run, got 'runs/a' and 'b'"),
        ("environments --pattern Foo", "unknown option '--pattern'; the closest are: --help"),
        ("train --num-env 3", "unknown option '--num-env'; the closest are: --num-envs"),
        ("train --torso gruu", "unknown torso 'gruu'; the closest are: gru"),
        (
            "train --torso x",
            "unknown torso 'x'; choose from: attention, delta_net, ffm, gated_delta_net, ",
        ),
        ("train --torso s5_stack", "torso 's5_stack' is now called 's5'"),
        ("train --num-layers 0", "num_layers must be an integer from 1 to 64, got 0"),
        ("train --torso rl2_gru --num-layers 2", "torso rl2_gru has no num_layers, got 2"),
        (
            "train --torso attention --features 65",
            "features must be divisible by 8 for torso attention, got 65",
        ),
        ("train --torso ffm --features 1", "features must be at least 2 for torso ffm, got 1"),
        (
            "train --encoder vit --features 6",
            "features must be divisible by 4 for encoder vit, got 6",
        ),
        ("train --memory-horizon 1", "memory_horizon must be a number from 2 to 1e+06, got 1.0"),
        (
            "train --torso gtrxl --memory-horizon 50",
            "torso gtrxl has no memory_horizon, got 50.0; these have: gru, lstm, slstm",
        ),
        ("train --head-features -1", "head_features must be an integer from 0 to 65536, got"),
        (
            "train --algorithm dqn --shared-memory",
            "shared_memory is an option of ppo, whose actor and critic can share a memory; dqn",
        ),
        (
            "train --torso mlp --gradient-checkpointing",
            "gradient_checkpointing needs a torso with memory, since mlp learns from single steps",
        ),
        (
            "train --num-envs 8 --minibatch-groups 3",
            "minibatch_groups must divide num_envs, and num_minibatches the steps of a group",
        ),
        ("train --shared-memory maybe", "--shared-memory must be True or False, got 'maybe'"),
        ("train --recurrence-learning-rate-scale -1", "recurrence_learning_rate_scale must be a"),
        (
            "train --recurrence-learning-rate-scale 0.1",
            "torso gru has no parameters for recurrence_learning_rate_scale, got 0.1; these",
        ),
        (
            "train --torso mamba2 --memory-horizon 20000",
            "mamba2.memory_horizon must be a number from 2 to 10000, got 20000.0",
        ),
        (
            "train --num-steps 8 --burn-in-length 8",
            "burn_in_length must be an integer from 0 to 7, got 8",
        ),
        ("train --environment gymnax::MemoryChan", "the closest are: MemoryChain-bsuite"),
        ("train --environment gymnaks::CartPole-v1", "the closest are: gymnax"),
        ("train --environment-parameters lenght=3", "the closest are: memory_length"),
        ("train --environment-parameters 3", "name=value, got '3'"),
        ("train --environment-parameters a=3 a=4", "must give each once, got 'a' twice"),
        ("train --num-envs 3 --num-minibatches 5", "must be divisible by num_minibatches"),
        ("train --num-envs 6", "num_envs must be divisible by num_minibatches"),
        ("train --num-steps 0", "num_steps must be an integer of at least 1, got 0"),
        ("train --num-seeds -1", "num_seeds must be an integer from 1 to 65536, got -1"),
        (
            "train --total-steps 99999999999999999999",
            "total_steps must be an integer from 1 to",
        ),
        ("train --features 100000000000", "features must be an integer from 1 to 65536, got"),
        ("train --num-envs 1000000000000", "num_envs must be an integer from 1 to 2147483647"),
        ("train --num-envs 2000000000", "num_envs * num_steps must be 2147483647 at most, got"),
        ("train --evaluation-episodes 1000000000000", "evaluation_episodes must be an integer"),
        ("train --learning-rate inf", "learning_rate must be a finite number of at least 0"),
        ("train --max-gradient-norm 0", "max_gradient_norm must be greater than 0"),
        (
            "train --value-range 3 2",
            "value_range must go from low to high, both finite, got 3.0",
        ),
        ("train --value-range 0 inf", "value_range must go from low to high, both finite"),
        ("train --learning-rate fast", "error: --learning-rate takes a number, got 'fast'"),
        ("train --num-seeds 1.5", "error: --num-seeds takes an integer, got '1.5'"),
        ("train --num-layers two", "error: --num-layers takes an integer, got 'two'"),
        ("train --value-range 1", "error: --value-range takes LOW HIGH, got fewer values"),
        ("train --devices 0", "error: devices must be an integer of at least 1, got 0"),
        ("sweep --method x", "error: --method takes one of random, grid, optuna, got 'x'"),
        ("compare --return-ranges 1", "error: --return-ranges takes LOW HIGH ..., got '1'"),
        ("list", "error: KIND is missing: torsos, algorithms, heads"),
        ("train --algorithm dqm", "unknown algorithm 'dqm'; the closest are: dqn"),
        ("train --algorithm", "unknown algorithm ''; choose from: dqn, ppo, pqn, r2d2, sac"),
        (
            "train --algorithm=dqn --clip-coefficient 1",
            "--clip-coefficient is an option of ppo, and not of dqn",
        ),
        (
            "train --algorithm dqn --buffer-size 9 --batch-size 17",
            "buffer_size must hold at least batch_size",
        ),
        ("train --algorithm dqn --buffer-size 2000000000", "the replay would take"),
        ("train --algorithm dqn --environment gymnax::Pendulum-v1", "use ppo, sac"),
        ("train --algorithm sac", "use ppo, dqn, r2d2, pqn"),
        ("train --value-head c51", "unknown value_head 'c51'"),
        (
            "train --value-head c51_q_network",
            "value_head of ppo must be one of v_network, hl_gauss_v_network, got 'c51_q_network'",
        ),
        ("train --policy-head gaussian", "head gaussian needs actions that are vectors"),
        ("train --algorithm dqn --policy-head categorical", "dqn acts by its values"),
        ("evaluate nowhere", "nowhere is not a run folder"),
        ("evaluate", "run"),
    ],
)
def test_bad_input_is_told_in_one_line_with_exit_code_2(
    arguments, words, capsys, as_a_user, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(arguments.split()) == 2
    output = capsys.readouterr()
    assert words.lower() in output.err.lower()
    assert output.err.count("\n") == 1
    assert "---" not in output.err
    assert "Error parsing" not in output.err
    assert output.out == ""
    assert not list(tmp_path.iterdir()), "nothing may be written for bad input"


@pytest.mark.parametrize(("value", "shown"), [("1", True), ("0", False), ("", False)])
def test_the_trace_behind_an_error_is_shown_when_debugging(value, shown, capsys, monkeypatch):
    monkeypatch.setenv("MEMORAX_DEBUG", value)
    assert main(["train", "--num-seeds", "0"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("memorax: error: ")
    assert any(line.startswith("Traceback") for line in lines) == shown
    assert any("BadInputError" in line for line in lines) == shown
    assert (len(lines) > 1) == shown


@pytest.mark.exhaustive
def test_other_algorithms_train_resume_and_are_evaluated_too(tmp_path, capsys):
    folder = tmp_path / "run"
    command = [
        *("train", "--algorithm", "r2d2", "--run-folder", str(folder), "--num-seeds", "2"),
        *("--environment-parameters", "memory_length=3", "--features", "8", "--num-envs", "4"),
        *("--num-steps", "4", "--sequence-length", "8", "--burn-in-length", "2", "--n-step", "2"),
        *("--batch-size", "4", "--buffer-size", "200", "--learning-starts", "30"),
        *("--total-steps", "96", "--evaluation-episodes", "8", "--previous-inputs"),
        "--no-memoryless-twin",
    ]
    assert main(command) == 0
    told = " ".join(capsys.readouterr().out.split())
    agent = make_agents(RunFolder(folder).config())["gru"]
    assert f"the replay of 2 seed(s) takes {2 * agent.replay_bytes:,} bytes" in told
    losses = [number_in(row["loss"]) for row in read_metrics(RunFolder(folder))]
    assert np.isnan(losses[:2]).all(), "nothing is learned before the replay has begun to fill"
    assert np.isfinite(losses[-2:]).all()
    evaluated = (folder / "evaluation.json").read_text()
    assert main([*command[:5], "--resume"]) == 0
    assert (folder / "evaluation.json").read_text() == evaluated


def test_a_loss_that_is_no_number_stops_the_run(tmp_path, capsys):
    folder = tmp_path / "run"
    options = ("--torso", "mlp", "--no-memoryless-twin")
    assert train(folder, *options, "--learning-rate", "1e38", "--max-gradient-norm", "1e38") == 1
    error = capsys.readouterr().err
    assert "_loss of seed(s) 0" in error
    assert "is not finite at step" in error
    assert "last good state: no checkpoint yet in" in error
    assert not list((folder / "checkpoints").glob("*/*"))


@pytest.mark.parametrize("algorithm", [None, "ppo", "r2d2", "pqn", "sac"])
def test_help_lists_every_field_of_every_configuration(algorithm, capsys):
    chosen = [] if algorithm is None else ["--algorithm", algorithm]
    with pytest.raises(SystemExit) as stop:
        main(["train", *chosen, "--help-all"])
    assert stop.value.code == 0
    told = capsys.readouterr().out
    names = [
        field.name
        for config in (TrainConfig, ALGORITHMS[algorithm or "ppo"].config)
        for field in dataclasses.fields(config)
        if field.name != "algorithm"
    ]
    names[names.index("imports")] = "import"
    for name in (*names, "run_folder", "resume"):
        assert f"--{name.replace('_', '-')} " in told or f"--{name.replace('_', '-')}," in told


def test_help_without_a_command_lists_the_commands(capsys):
    assert main(["--help"]) == 0
    assert "train" in capsys.readouterr().out
    assert main([]) == 2


def test_a_reader_that_has_seen_enough_is_no_error():
    command = [sys.executable, "-m", "memorax", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
