"""Memories and tasks of one's own on the command line: ``--import MODULE``."""

import json
import sys
from pathlib import Path

import pytest

from memorax.catalog.suites import SUITES
from memorax.experiments.cli.command_line import main
from memorax.experiments.presets.torsos import TORSOS
from memorax.experiments.run.folder import RunFolder

MODULE = """
from memorax.catalog.suites import SUITES, Suite
from memorax.experiments.presets.torsos import TORSOS, Torso


def build(features):
    import flax.linen as nn
    from memorax.networks import RNN

    return RNN(cell=nn.SimpleCell(features))


TORSOS["own_cell"] = Torso(build)


def names():
    return ["Chain"]


def make(name, /, **parameters):
    from memorax.environments.memory import MemoryChain

    return {"Chain": MemoryChain}[name](**parameters), None


SUITES["own_suite"] = Suite("own_module", summary="own tasks")
"""
SMALL = (
    *("--environment", "own_suite::Chain", "--torso", "own_cell", "--features", "4"),
    *("--num-envs", "2", "--num-steps", "4", "--num-minibatches", "1", "--update-epochs", "1"),
    *("--total-steps", "8", "--num-seeds", "1", "--evaluation-episodes", "1"),
    "--no-memoryless-twin",
)


def forget():
    """Leave things as another process finds them."""
    TORSOS.pop("own_cell", None)
    SUITES.pop("own_suite", None)
    sys.modules.pop("own_module", None)


@pytest.fixture
def _own_module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.delenv("MEMORAX_IMPORT", raising=False)
    (tmp_path / "own_module.py").write_text(MODULE)
    yield
    forget()


@pytest.mark.usefixtures("_own_module")
def test_a_module_of_the_current_folder_registers_a_torso(capsys):
    assert main(["list", "torsos", "--import", "own_module"]) == 0
    assert "\nown_cell " in capsys.readouterr().out


@pytest.mark.usefixtures("_own_module")
def test_a_task_that_an_own_suite_does_not_have_is_refused_by_name(capsys):
    options = "--import", "own_module", "--environment", "own_suite::Chian"
    assert main(["train", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("unknown own_suite environment 'Chian'; the closest are: Chain")


@pytest.mark.usefixtures("_own_module")
def test_a_run_stores_the_module_of_its_cell_and_asks_for_it(capsys, monkeypatch):
    assert main(["train", "--import", "own_module", *SMALL, "--run-folder", "run"]) == 0
    with open("run/config.json") as file:
        assert json.load(file)["imports"] == ["own_module"]
    forget()
    capsys.readouterr()
    for command in ("evaluate", "play", "export"):
        assert main([command, "run"]) == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        assert "run/config.json was made with the module 'own_module'" in told
        assert "add --import own_module if you trust it" in told
        assert "own_module" not in sys.modules
    assert main(["evaluate", "run", "--import=own_module"]) == 0
    assert "own_cell" in capsys.readouterr().out
    forget()
    monkeypatch.setenv("MEMORAX_IMPORT", "own_module")
    assert RunFolder.open(Path("run")).config().torso == "own_cell"


@pytest.mark.usefixtures("_own_module")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--import"], "--import takes the name of a module, got 'nothing'"),
        (["--import", "--torso"], "--import takes the name of a module, got '--torso'"),
        (["--import", "nowhere"], "--import nowhere: there is no such module in "),
        (["--import", "broken"], "--import broken: it fails: ZeroDivisionError: division by zero"),
    ],
)
def test_what_cannot_be_imported_is_refused_in_one_line(arguments, message, capsys, tmp_path):
    (tmp_path / "broken.py").write_text("1 / 0")
    assert main(["train", *arguments]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"memorax: error: {message}")
    assert told.count("\n") == 1


@pytest.mark.usefixtures("_own_module")
def test_a_task_of_a_module_that_there_is_not_names_the_path(capsys):
    assert main(["train", "--environment", "gymnasium::nowhere:Walk"]) == 2
    told = capsys.readouterr().err
    assert "there is no module 'nowhere' on Python's path" in told
    assert "PYTHONPATH" in told
