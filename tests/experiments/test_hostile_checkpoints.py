import dataclasses
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import tensorstore

from memorax import Policy
from memorax.experiments.files.checksums import write_sums
from memorax.experiments.run.checkpoints import Checkpoints
from memorax.experiments.run.config import TrainConfig, to_json
from memorax.experiments.run.folder import RunFolder
from tests.experiments.states import make_state, save_all

ROOT = Path(__file__).parents[2]
TIME_LIMIT = 600
"""Seconds; a case takes a few hundredths."""


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path)


@pytest.mark.parametrize(
    "count", [pytest.param(500, marks=pytest.mark.exhaustive, id="500"), pytest.param(40, id="40")]
)
def test_a_mutated_checkpoint_is_refused_or_what_it_was(count, tmp_path):
    arguments = [str(tmp_path), str(count)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.experiments.mutated_checkpoints", *arguments],
        capture_output=True,
        check=False,
        cwd=ROOT,
        text=True,
        timeout=TIME_LIMIT,
    )
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout.splitlines()[-1])
    # Who writes down new checksums may also have other values loaded, or shapes refused.
    assert outcomes["damaged"].keys() <= {"refused", "same"}
    assert outcomes["crafted"].keys() <= {"refused", "same", "other", "does not fit"}
    for kind in ("damaged", "crafted"):
        assert outcomes[kind]["refused"] > 0.2 * count


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"shape": [2, 10**11]}, r"checkpoint has float32 \(2, 100000000000\)"),
        ({"shape": [2, 10**11], "chunks": [2, 10**11]}, r"checkpoint has float32 \(2, 1000"),
        ({"chunks": [2, 10**10]}, r"params/kernel of shape \(2, 3\) has chunks of \(2, 1000"),
        ({"chunks": [1, 1]}, "is damaged"),
        ({"dtype": "<f8"}, r"checkpoint has float64 \(2, 3\), the configuration makes float32"),
        ({"dtype": "|O"}, "is damaged"),
        ({"compressor": {"id": "pickle"}}, "is damaged"),
    ],
)
def test_a_header_that_lies_is_refused_before_anything_is_made_for_it(folder, header, message):
    save_all(folder, [1.0])
    path = folder.path / "checkpoints" / "gru" / "1"
    store = {"driver": "ocdbt", "base": f"file://{path}/default/"}
    arrays = tensorstore.KvStore.open(store).result()
    key = "params.kernel/.zarray"
    arrays[key] = json.dumps(json.loads(arrays[key]) | header)
    write_sums(path)
    with pytest.raises(ValueError, match=message):
        Checkpoints(folder, "gru").restore(make_state())


def test_nothing_is_unpickled(folder, monkeypatch):
    save_all(folder, [1.0])

    def refuse(*arguments, **keywords):
        raise AssertionError("something was unpickled")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    assert Checkpoints(folder, "gru").restore(make_state())[0] == 1


def test_checksums_cannot_lead_elsewhere(folder, tmp_path):
    save_all(folder, [1.0])
    sums = folder.path / "checkpoints" / "gru" / "1" / "SHA256SUMS"
    (tmp_path / "elsewhere").write_text("elsewhere")
    sums.write_text(sums.read_text() + f"{'0' * 64}  ../../../elsewhere\n")
    with pytest.raises(ValueError, match=r"\.\./elsewhere is missing"):
        Checkpoints(folder, "gru")


@pytest.mark.parametrize("score", ['"x"', "[]", "1e999", "NaN", "true", "{}"])
def test_a_score_that_is_no_number_is_refused(folder, score):
    save_all(folder, [1.0])
    path = folder.path / "checkpoints" / "gru" / "1"
    (path / "metrics" / "metrics").write_text(f'{{"episode_return": {score}}}')
    write_sums(path)
    with pytest.raises(ValueError, match=r"1 is damaged \("):
        Checkpoints(folder, "gru")


def test_a_run_that_says_it_is_huge_is_refused_before_anything_is_made_for_it(tmp_path):
    config = TrainConfig(torso="gru", features=8, memoryless_twin=False)
    RunFolder.create(tmp_path / "run", config)
    save_all(RunFolder(tmp_path / "run"), [1.0])
    for size in ({"num_seeds": 2**16}, {"features": 2**16}):
        huge = dataclasses.replace(config, **size)
        (tmp_path / "run" / "config.json").write_text(to_json(huge))
        with pytest.raises(ValueError, match="does not fit the configuration"):
            Policy.load(tmp_path / "run")
