import csv
import io
import json
import resource
import struct
import sys
import time
from contextlib import closing

import numpy as np
import pytest
from rich.console import Console
from tensorboardX.proto.event_pb2 import Event

from memorax.experiments.cli.command_line import main
from memorax.experiments.files.write_errors import WriteErrors, WriteFailedError
from memorax.experiments.loggers.combined import CombinedLogger
from memorax.experiments.loggers.dashboard import BARS, sparkline
from memorax.experiments.loggers.line_file import LineFile
from memorax.experiments.loggers.logger import LoggedModel, means_over_seeds
from memorax.experiments.loggers.registry import LOGGERS
from memorax.experiments.loggers.tensorboard_logger import TensorBoardLogger
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.folder import RunFolder, read_metrics

STEPS = (32, 64, 96)
METRICS = {
    "episode_return": np.array([[np.nan, 1.0, 3.0], [np.nan, 2.0, 5.0]], np.float32),
    "value_loss": np.array([[0.1, 0.2, 0.3], [0.3, 0.4, np.inf]], np.float32),
}
MEANS = {
    32: {"value_loss": pytest.approx(0.2)},
    64: {"episode_return": 1.5, "value_loss": pytest.approx(0.3)},
    96: {"episode_return": 4.0, "value_loss": np.inf},
}


@pytest.fixture
def folder(tmp_path):
    return RunFolder.create(tmp_path / "run", TrainConfig())


def logged(folder, model="gru", step=0, console=None):
    console = console or Console(quiet=True)
    return LoggedModel(folder, model, step, 96, console)


def write(names, logged, first, last):
    """Log some of the updates, as a run that ends after them does."""
    writes = WriteErrors("stop", logged.console)
    with closing(CombinedLogger(names, logged, writes)) as logger:
        for update in range(first, last):
            piece = {name: values[:, update : update + 1] for name, values in METRICS.items()}
            logger.log(STEPS[update : update + 1], piece, 1.0)
            logger.flush()


@pytest.mark.parametrize("name", ["csv", "jsonl"])
@pytest.mark.parametrize("torn", [0, 7])
def test_a_file_that_a_killed_run_left_goes_on_as_if_nothing_had_been(name, torn, tmp_path):
    whole, killed = (RunFolder.create(tmp_path / kind, TrainConfig()) for kind in ("w", "k"))
    for folder in (whole, killed):
        write([name], logged(folder), 0, 3)
        write([name], logged(folder, "mlp"), 0, 2)
    write([name], logged(whole, "mlp", 64), 2, 3)
    path = killed.path / f"metrics.{name}"
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - torn)
    assert len(read_metrics(killed)) == (9 if torn and name == "csv" else 10)
    write([name], logged(killed, "mlp", 32), 1, 3)
    assert path.read_bytes() == (whole.path / f"metrics.{name}").read_bytes()


def test_a_file_torn_in_its_header_begins_anew(folder):
    (folder.path / "metrics.csv").write_text("model,se")
    write([], logged(folder), 0, 1)
    assert [row["step"] for row in read_metrics(folder)] == ["32", "32"]


def test_lines_that_cannot_be_written_are_kept_for_later_and_leave_no_trace(tmp_path):
    path = tmp_path / "lines"
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    with closing(LineFile(path, lambda lines: lines)) as file:
        file.append("first\n")
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, limit[1]))
        try:
            for line in ("second\n", "third\n"):
                with pytest.raises(OSError, match="File too large"):
                    file.append(line)
                assert path.read_text() == "first\n"
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert path.read_text() == "first\nsecond\nthird\n"


def test_events_go_on_in_a_new_file_after_one_that_could_not_be_written(folder):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    with closing(TensorBoardLogger(logged(folder))) as logger:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, limit[1]))
        try:
            with pytest.raises(OSError, match="File too large"):
                logger.log(STEPS * 1000, {"loss": np.ones((2, 3000))}, 1.0)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        logger.log(STEPS, METRICS, 1.0)
    _, path = sorted((folder.path / "tensorboard" / "gru").iterdir())
    content, steps = path.read_bytes(), []
    while content:
        (length,) = struct.unpack("Q", content[:8])
        steps.append(Event.FromString(content[12 : 12 + length]).step)
        content = content[16 + length :]
    assert steps == [0, *STEPS]


def test_json_lines_hold_what_the_table_holds(folder):
    write(["jsonl"], logged(folder), 0, 3)
    lines = (folder.path / "metrics.jsonl").read_text().splitlines()
    with (folder.path / "metrics.csv").open() as file:
        for line, row in zip(lines, csv.DictReader(file), strict=True):
            values = json.loads(line)
            for name, value in row.items():
                unsaid = None if value in ("", "inf") else value
                assert values[name] == unsaid or str(values[name]) == unsaid


def test_means_leave_out_what_no_seed_has():
    assert dict(means_over_seeds(STEPS, METRICS)) == MEANS


def history(path):
    """Read what an offline run of Weights & Biases wrote: protocol buffers in a LevelDB log."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, offset, pending = path.read_bytes(), 7, b""
    while offset < len(data):
        left = 32768 - offset % 32768
        if left < 7:
            offset += left
            continue
        length, kind = struct.unpack("<HB", data[offset + 4 : offset + 7])
        pending += data[offset + 7 : offset + 7 + length]
        offset += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            record, pending = Record.FromString(pending), b""
            if record.HasField("history"):
                items = record.history.item
                names = {item.key or ".".join(item.nested_key): item for item in items}
                step = json.loads(names["_step"].value_json)
                yield step, {n: json.loads(names[n].value_json) for n in METRICS if n in names}


def test_weights_and_biases_go_on_with_their_run_and_repeat_nothing(folder, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_SILENT", "true")
    write(["wandb"], logged(folder), 0, 2)
    kept = json.loads((folder.path / "tracking.json").read_text())["wandb"]["gru"]
    assert kept["step"] == 64
    time.sleep(1)  # Weights & Biases names folders by the second.
    # The last checkpoint was one update earlier than the last metrics.
    write(["wandb"], logged(folder, step=32), 1, 3)
    files = list((folder.path / "wandb").glob(f"offline-run-*/run-{kept['id']}.wandb"))
    assert len(files) == 2
    # Its own process may still be writing when a run is said to be finished.
    for _ in range(100):
        told = sorted(pair for file in files for pair in history(file))
        if len(told) >= len(STEPS):
            break
        time.sleep(0.1)
    assert [step for step, _ in told] == list(STEPS)
    assert dict(told) == MEANS


def test_mlflow_goes_on_with_its_run_and_repeats_nothing(folder, monkeypatch):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    from mlflow import MlflowClient

    write(["mlflow"], logged(folder), 0, 2)
    write(["mlflow"], logged(folder, step=32), 1, 3)
    client = MlflowClient(tracking_uri=f"sqlite:///{folder.path / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("memorax").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["algorithm.gamma"] == "0.99"
    for name in METRICS:
        told = {
            metric.step: metric.value for metric in client.get_metric_history(run.info.run_id, name)
        }
        expected = {step: means[name] for step, means in MEANS.items() if name in means}
        # A database has no infinity.
        expected |= {96: pytest.approx(sys.float_info.max)} if name == "value_loss" else {}
        assert told == expected
        assert len(client.get_metric_history(run.info.run_id, name)) == len(expected)


@pytest.mark.parametrize("name", ["dashboard", "progress"])
def test_the_terminal_tells_speed_return_and_spread(name, folder):
    console = Console(record=True, width=120, file=io.StringIO())
    write([name], logged(folder, console=console), 0, 3)
    told = " ".join(console.export_text().split())
    assert "gru" in told
    assert "100%" in told
    assert "64 steps/s" in told
    assert "return 4.00 (seeds 3.00 to 5.00)" in told
    if name == "dashboard":
        assert f"return 1.50 {BARS[0]}{BARS[-1]} 4.00" in told
        assert "step 96 mean least seed greatest seed episode_return 4 3 5" in told


def test_a_sparkline_shows_a_curve_in_the_width_there_is():
    assert sparkline([0.0, 1.0, 0.5]) == BARS[0] + BARS[-1] + BARS[4]
    assert sparkline([2.0, 2.0]) == BARS[4] * 2
    assert sparkline(np.arange(80.0).tolist(), width=8) == BARS


def test_when_a_logger_cannot_begin_the_others_are_closed(folder, monkeypatch):
    closed = []
    csv_logger = LOGGERS["csv"].load()
    close = csv_logger.close
    monkeypatch.setattr(csv_logger, "close", lambda self: (closed.append("csv"), close(self)))

    def refuse(self, logged):
        raise OSError("no terminal")

    monkeypatch.setattr(LOGGERS["dashboard"].load(), "__init__", refuse)
    writes = WriteErrors("stop", Console(quiet=True))
    with pytest.raises(WriteFailedError, match="log dashboard could not be written: no terminal"):
        CombinedLogger(["dashboard"], logged(folder), writes)
    assert closed == ["csv"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("train --loggers tensorbord", "unknown logger 'tensorbord'; the closest are: tensorboard"),
        ("train --loggers csv csv", "loggers must differ from each other, got 'csv' twice"),
        ("train --loggers progress dashboard", "one that draws in the terminal, got dashboard and"),
        ("train --loggers wandb", "logger 'wandb' needs wandb: pip install 'memorax-rl[wandb]'"),
        (
            "compare --loggers mlflow",
            "logger 'mlflow' needs mlflow: pip install 'memorax-rl[mlflow]'",
        ),
    ],
)
def test_bad_input_is_told_in_one_line_with_exit_code_2(
    arguments, words, capsys, as_a_user, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for package in ("wandb", "mlflow"):
        monkeypatch.setitem(sys.modules, package, None)
    assert main(arguments.split()) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir()), "nothing may be written for bad input"
