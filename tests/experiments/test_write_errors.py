import asyncio
import gc
import io

import pytest
from rich.console import Console

from memorax.experiments.cli.command_line import main
from memorax.experiments.cli.reported_errors import hide_reported_errors
from memorax.experiments.files.write_errors import WriteErrors, WriteFailedError

RUN = (
    *("--environment", "memory::MemoryChain", "--environment-parameters", "memory_length=3"),
    *("--num-seeds", "1", "--features", "4", "--no-memoryless-twin", "--evaluation-episodes", "2"),
    *("--num-envs", "4", "--num-steps", "4", "--num-minibatches", "2", "--update-epochs", "1"),
    *("--total-steps", "320", "--checkpoint-every", "64"),
)
LESS_THAN_A_CHECKPOINT = 8_000
EVENTS_UNTIL_TRAINING = 40


def test_an_error_stops_or_is_told_once_and_at_the_end():
    told = io.StringIO()
    console = Console(file=told, width=200)
    with pytest.raises(WriteFailedError, match="log csv could not be written: no space"):  # noqa: SIM117
        with WriteErrors("stop", console).caught("log csv"):
            raise OSError("no space")
    writes = WriteErrors("continue", console)
    for _ in range(3):
        with writes.caught("log csv"):
            raise OSError("no space")
    with writes.caught("checkpoint"):
        pass
    writes.report()
    assert told.getvalue().splitlines() == [
        "log csv could not be written: no space; the run continues",
        "log csv could not be written 3 time(s)",
    ]
    with pytest.raises(KeyError), writes.caught("log csv"):
        raise KeyError


def test_further_failures_of_one_save_are_not_told(caplog):
    hide_reported_errors()

    async def fail(words):
        raise OSError(words)

    async def nobody_waits():
        tasks = [asyncio.ensure_future(fail(words)) for words in ("of orbax", "of another")]
        await asyncio.sleep(0)
        del tasks

    asyncio.run(nobody_waits())
    gc.collect()
    assert len(caplog.records) == 1
    assert "Task exception was never retrieved" in caplog.text
    assert "of another" in caplog.text


@pytest.mark.exhaustive
def test_a_full_disk_stops_a_run_or_is_told(lives, tmp_path):
    folder = tmp_path / "stopped"
    code, told = lives.live(
        "train", *RUN, "--run-folder", folder, most_bytes=LESS_THAN_A_CHECKPOINT
    )
    assert code == 1, told
    assert "checkpoint could not be written: [Errno 27] File too large" in told
    assert f"last good state: no checkpoint yet in {folder}" in told
    assert "Traceback" not in told
    assert not list((folder / "checkpoints" / "gru").iterdir())

    code, told = lives.live("train", "--run-folder", folder, "--resume")
    assert code == 0, told

    folder = tmp_path / "continued"
    command = ("train", *RUN, "--run-folder", folder, "--on-write-error", "continue")
    code, told = lives.live(*command, most_bytes=LESS_THAN_A_CHECKPOINT)
    assert code == 0, told
    assert told.count("checkpoint could not be written: [Errno 27] File too large") == 1
    assert "checkpoint could not be written 6 time(s)" in told
    assert "picture of the learning curve could not be written" in told
    assert "Traceback" not in told
    assert (folder / "evaluation.json").is_file()


@pytest.mark.exhaustive
def test_a_folder_that_becomes_read_only_stops_a_run_or_is_told(lives, tmp_path):
    folder = tmp_path / "stopped"
    command = ("train", *RUN, "--run-folder", folder)
    code, told = lives.live(*command, read_only=EVENTS_UNTIL_TRAINING)
    assert code == 1, told
    assert "could not be written: [Errno 13] Permission denied" in told
    assert "last good state: " in told
    assert "Traceback" not in told

    code, told = lives.live("train", "--run-folder", folder, "--resume")
    assert code == 1, told
    assert "Permission denied" in told
    assert "Traceback" not in told

    folder = tmp_path / "continued"
    command = ("train", *RUN, "--run-folder", folder, "--on-write-error", "continue")
    code, told = lives.live(*command, read_only=EVENTS_UNTIL_TRAINING)
    assert code == 0, told
    for what in ("timing", "checkpoint", "picture of the learning curve", "evaluation"):
        assert f"{what} could not be written: [Errno 13] Permission denied" in told
    assert "Traceback" not in told


def test_a_run_folder_that_cannot_be_made_is_bad_input(tmp_path, capsys, as_a_user):
    (tmp_path / "file").touch()
    assert main(["train", "--run-folder", str(tmp_path / "file" / "run")]) == 2
    error = capsys.readouterr().err
    assert "run folder" in error
    assert "cannot be made: [Errno 20] Not a directory" in error
