import contextlib
import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import communication
from memorax.algorithms import PPOConfig
from memorax.experiments.cli.command_line import main
from memorax.experiments.loggers.progress_bar import ProgressBar
from memorax.experiments.run.folder import RunFolder, number_in, read_metrics
from memorax.experiments.run.processes import exit_on_failure, other_process_error
from tests.experiments.lives import Lives

SMALL = (
    *("--environment-parameters", "memory_length=3", "--features", "8", "--num-envs", "8"),
    *("--num-steps", "8", "--total-steps", "256", "--num-seeds", "2", "--evaluation-episodes", "8"),
    *("--no-memoryless-twin", "--checkpoint-every", "64"),
)
PPO = (*SMALL, "--num-minibatches", "2", "--update-epochs", "2")
R2D2 = (
    *("--algorithm", "r2d2", *SMALL, "--sequence-length", "16", "--burn-in-length", "8"),
    *("--batch-size", "8", "--buffer-size", "512", "--learning-starts", "64"),
    *("--target-update-period", "3"),
)


def assert_equal_curves(folder, other):
    """Compare every metric of two runs, to 1e-5 of its scale."""
    curves = [
        {
            name: np.array([number_in(row[name]) for row in read_metrics(RunFolder(path))])
            for name in read_metrics(RunFolder(path))[0]
            if name != "model"
        }
        for path in (folder, other)
    ]
    assert curves[0].keys() == curves[1].keys()
    for name, expected in curves[0].items():
        scale = max(1.0, np.nanmax(np.abs(expected), initial=0.0))
        np.testing.assert_allclose(
            curves[1][name], expected, rtol=0, atol=1e-5 * scale, err_msg=name
        )


def train(folder, *options):
    assert main(["train", *options, "--run-folder", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def on_one_device(tmp_path_factory):
    return train(tmp_path_factory.mktemp("runs") / "one", *PPO, "--devices", "1")


@pytest.mark.exhaustive
def test_two_devices_learn_from_groups_what_one_does(tmp_path):
    for devices in ("1", "2"):
        options = ("--devices", devices, "--minibatch-groups", "4")
        train(tmp_path / devices, *PPO, *options)
    assert_equal_curves(tmp_path / "1", tmp_path / "2")


@pytest.mark.parametrize(
    "groups",
    ["1", pytest.param("2", marks=pytest.mark.exhaustive)],
    ids=["environments spread", "seeds spread"],
)
def test_two_devices_learn_what_one_does(on_one_device, groups, tmp_path):
    spread = train(tmp_path / "two", *PPO, "--devices", "2", "--seed-devices", groups)
    assert_equal_curves(on_one_device, spread)


@pytest.fixture(scope="module")
def lives_on_four_devices(tmp_path_factory):
    with contextlib.closing(Lives(tmp_path_factory.mktemp("lives"), num_devices=4)) as lives:
        yield lives


@pytest.mark.exhaustive
@pytest.mark.parametrize("algorithm", [PPO, R2D2], ids=["ppo", "r2d2"])
def test_four_devices_learn_what_one_does(lives_on_four_devices, algorithm, tmp_path):
    for name, options in {
        "one": ("--devices", "1"),
        "four": (),
        "two by two": ("--seed-devices", "2"),
    }.items():
        code, told = lives_on_four_devices.live(
            "train", *algorithm, *options, "--run-folder", tmp_path / name
        )
        assert code == 0, told
    assert_equal_curves(tmp_path / "one", tmp_path / "four")
    assert_equal_curves(tmp_path / "one", tmp_path / "two by two")


@pytest.mark.exhaustive
def test_a_run_goes_on_with_other_devices(on_one_device, tmp_path, monkeypatch):
    folder, log = tmp_path / "interrupted", ProgressBar.log

    def log_and_interrupt(self, *arguments):
        log(self, *arguments)
        monkeypatch.undo()
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(ProgressBar, "log", log_and_interrupt)
    command = ["train", "--run-folder", str(folder)]
    assert main([*command, *PPO, "--devices", "2"]) == 130
    assert main([*command, "--resume", "--devices", "1"]) == 0
    assert_equal_curves(on_one_device, folder)


def processes(folder, *options, slurm=False):
    """Start two processes of one device each that train together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    one_device = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=1"
    started = []
    for number in "01":
        meeting = ["--coordinator", f"127.0.0.1:{port}", "--num-processes", "2"]
        meeting += ["--process-id", number]
        variables = {"XLA_FLAGS": one_device}
        if slurm:
            # What srun sets; the port is made of the job's number.
            meeting = ["--coordinator", "slurm"]
            variables |= {"SLURM_JOB_ID": str(port), "SLURM_STEP_NODELIST": "localhost"}
            variables |= {"SLURM_NTASKS": "2", "SLURM_PROCID": number, "SLURM_LOCALID": number}
        command = [sys.executable, "-m", "memorax", "train", *options, *meeting]
        started.append(
            subprocess.Popen(
                [*command, "--run-folder", str(folder)],
                env=os.environ | variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return started


@pytest.mark.exhaustive
@pytest.mark.parametrize("slurm", [False, True], ids=["environments spread", "seeds spread, SLURM"])
def test_two_processes_learn_what_one_does(on_one_device, slurm, tmp_path):
    groups = "2" if slurm else "1"
    started = processes(tmp_path / "run", *PPO, "--seed-devices", groups, slurm=slurm)
    outputs = [process.communicate() for process in started]
    assert [process.returncode for process in started] == [0, 0], outputs
    assert_equal_curves(on_one_device, tmp_path / "run")
    for name in ("evaluation.json", "learning_curve.png", "timing.json"):
        assert (tmp_path / "run" / name).is_file()
    # What the second one has to say is said by the first.
    assert "mean return" in outputs[0][0]
    assert "mean return" not in outputs[1][0]


@pytest.mark.exhaustive
@pytest.mark.parametrize("victim", [0, 1], ids=["the coordinator", "another"])
def test_a_process_that_dies_ends_the_other_within_a_minute(victim, tmp_path):
    folder = tmp_path / "run"
    started = processes(folder, *PPO, "--total-steps", "100000000")
    while not list((folder / "checkpoints" / "gru").glob("[0-9]*[0-9]")):
        assert [process.poll() for process in started] == [None, None]
        time.sleep(0.1)
    started[victim].kill()
    _, error = started[1 - victim].communicate(timeout=60)
    started[victim].communicate()
    assert started[1 - victim].returncode == 1
    *_, last = error.splitlines()
    assert "another process of this run has died or cannot be reached" in last
    assert re.search(rf"checkpoint of step [\d,]+ of gru in {folder}", last)


def test_what_comes_of_another_process_is_known_from_what_is_wrong_here():
    barrier = jax.errors.JaxRuntimeError("INTERNAL: Barrier failed")
    late = TimeoutError("Timed out while waiting for async_write_complete barrier.")
    late.__cause__ = barrier
    cut_off = ValueError("UNKNOWN: Gloo AllGather failed")
    assert other_process_error(late) is barrier
    assert other_process_error(cut_off) is cut_off
    assert other_process_error(ValueError("of this one")) is None


def test_a_process_without_memory_takes_no_other_for_lost(monkeypatch, capsys):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(os, "_exit", sys.exit)
    with pytest.raises(SystemExit) as ended, exit_on_failure(expected=()):
        jnp.zeros(2**44).block_until_ready()
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("memorax: error: out of memory: RESOURCE_EXHAUSTED")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--devices 3", "devices must be an integer from 1 to 2, got 3"),
        ("--devices 0", "devices must be an integer of at least 1, got 0"),
        ("--seed-devices 2 --num-seeds 3", "got seed_devices=2, num_seeds=3"),
        (
            "--seed-devices 2 --devices 1 --num-seeds 2",
            "devices must be 2, so that seed_devices=2 divides it",
        ),
        (
            "--seed-devices 3 --num-seeds 3",
            "seed_devices must be an integer from 1 to 2",
        ),
        (
            "--num-envs 3 --num-minibatches 1 --devices 2",
            "3 num_envs, 3 sequences of a batch of gru",
        ),
        (
            "--environment gymnasium::CartPole-v1 --devices 2",
            "devices must be 1 for gymnasium::Car",
        ),
        ("--num-processes 2", "num_processes needs a coordinator HOST:PORT, got num_processes=2"),
        ("--coordinator here", "coordinator must be HOST:PORT or slurm, got 'here'"),
        ("--coordinator a:1 --process-id 0", "got num_processes=None, process_id=0"),
        ("--coordinator a:1 --num-processes 2 --process-id 2", "from 0 to 1, got 2"),
        ("--coordinator slurm", "coordinator slurm needs the variables of SLURM"),
        ("--num-envs 2 --num-minibatches 2 --devices 2", "devices must be 1, so that"),
    ],
)
def test_what_cannot_be_shared_out_is_refused(arguments, words, tmp_path, capsys):
    assert jax.device_count() == 2
    command = ["train", *arguments.split(), "--run-folder", str(tmp_path / "run")]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_by_default_as_many_devices_train_as_can_have_an_equal_share(tmp_path, capsys):
    options = ("--torso", "mlp", "--num-envs", "3", "--num-minibatches", "1", "--seed", "1")
    train(tmp_path / "run", *PPO, *options)
    assert "1 of 2 device(s)" in " ".join(capsys.readouterr().out.split())


@pytest.mark.exhaustive
def test_devices_send_each_other_what_the_documentation_says():
    script = Path(__file__).parents[2] / "benchmarks" / "communication.py"
    done = subprocess.run(
        [sys.executable, str(script), "--json"], capture_output=True, text=True, check=True
    )
    rows = json.loads(done.stdout)
    assert [row["devices"] for row in rows] == [1, 2, 4, 8, 16, 32, 64]
    for row in rows:
        assert row["counted"] == row["expected"], row["devices"]


@pytest.mark.exhaustive
def test_what_devices_send_grows_with_neither_environments_nor_time_nor_replay():
    script = Path(__file__).parents[2] / "benchmarks" / "communication.py"
    done = subprocess.run(
        [sys.executable, str(script), "--growth", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = json.loads(done.stdout)
    assert {row["devices"] for row in rows} == {8, 64}
    for name in ("ppo", "pqn", "r2d2"):
        for devices in (8, 64):
            counts = {
                row["grown"]: row["counted"]
                for row in rows
                if (row["algorithm"], row["devices"]) == (name, devices)
            }
            assert {"num_envs", "num_steps"} <= counts.keys()
            assert ("buffer_size" in counts) == (name == "r2d2")
            assert all(count == counts[None] for count in counts.values()), counts
    for row in rows:
        assert row["all-reduces of gradients"] == row["gradient steps"], row


def test_minibatches_of_groups_leave_every_rollout_on_its_device():
    algorithm = PPOConfig(
        num_envs=4, num_steps=4, num_minibatches=2, update_epochs=1, minibatch_groups=2
    )
    config = dataclasses.replace(communication.CONFIG, algorithm=algorithm, total_steps=16)
    agent, program = communication.compile_update(2, config)
    counted = communication.count_collectives(program)
    assert counted.keys() == {"all-reduce"}
    state = jax.eval_shape(agent.init, jax.random.key(0))
    parameter_bytes = communication.tree_bytes(state.params)
    assert communication.count_gradients(program, parameter_bytes) == 2
    # Losses, means and deviations over the devices, and the episodes that have ended.
    assert counted["all-reduce"]["bytes"] < 2 * parameter_bytes + 200
