import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from memorax.experiments.cli.command_line import main
from memorax.experiments.files.lock import LOCK, FolderInUseError, lock
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.folder import RunFolder
from memorax.experiments.study.comparison import ComparisonFolder
from memorax.experiments.study.comparison_config import CompareConfig
from memorax.experiments.study.sweep import SweepFolder
from memorax.experiments.study.sweep_config import SweepConfig

HOLD = """
import sys, time
from pathlib import Path
from memorax.experiments.files.lock import lock
with lock(Path(sys.argv[1]), "run folder"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Return another process that trains in the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "folder")], stdout=subprocess.PIPE
    )

    def hold():
        assert process.stdout.readline() == b"held\n"
        return process

    yield hold
    process.kill()
    process.communicate()


@pytest.mark.parametrize(
    ("kind", "config", "command"),
    [
        (RunFolder, TrainConfig(), ("train", "--run-folder")),
        (ComparisonFolder, CompareConfig(), ("compare", "--comparison-folder")),
        (
            SweepFolder,
            SweepConfig(train=TrainConfig(memoryless_twin=False), search=("features=8,16",)),
            ("sweep", "--sweep-folder"),
        ),
    ],
)
def test_resuming_what_another_process_trains_is_refused_by_name(
    kind, config, command, tmp_path, holder, capsys
):
    folder = kind.create(tmp_path / "folder", config)
    process = holder()
    before = sorted(folder.path.rglob("*"))
    assert main([*command, str(folder.path), "--resume"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"process {process.pid} on {socket.gethostname()}" in line
    assert sorted(folder.path.rglob("*")) == before


def test_what_a_killed_process_leaves_holds_nobody_up(tmp_path, holder):
    (tmp_path / "folder").mkdir()
    process = holder()
    with pytest.raises(FolderInUseError), lock(tmp_path / "folder", "run folder"):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / "folder" / LOCK).is_file()
    with lock(tmp_path / "folder", "run folder"):
        assert f"process {os.getpid()} on " in (tmp_path / "folder" / LOCK).read_text()
    assert not list((tmp_path / "folder").iterdir())


def test_of_many_that_begin_at_once_one_trains_at_a_time(tmp_path):
    inside, most, entered, refused = [], [], [], []

    def train():
        for _ in range(200):
            try:
                with lock(tmp_path, "run folder"):
                    inside.append(1)
                    most.append(len(inside))
                    entered.append(1)
                    inside.pop()
            except FolderInUseError:
                refused.append(1)

    threads = [threading.Thread(target=train) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert len(entered) + len(refused) == 800


def test_a_folder_on_a_file_system_without_locks_is_trained_in(tmp_path, monkeypatch):
    def no_locks(*arguments):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("memorax.experiments.files.lock.fcntl.flock", no_locks)
    with lock(tmp_path, "run folder"):
        pass


def test_the_lock_is_no_link_to_elsewhere(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "other").write_text("kept")
    (tmp_path / "folder" / LOCK).symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="symbolic"), lock(tmp_path / "folder", "run folder"):
        pass
    assert (tmp_path / "other").read_text() == "kept"
