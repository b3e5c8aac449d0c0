import importlib
import os
import runpy
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TRAIN = """
import sys
import memorax
from memorax.experiments.cli.command_line import main
assert memorax.__file__.startswith(sys.argv[1]), memorax.__file__
sys.exit(main(["train", *sys.argv[2:]]))
"""
SMALL = (
    *("--environment", "memory::TMazePassive", "--features", "8", "--num-seeds", "1"),
    *("--num-envs", "4", "--num-steps", "8", "--num-minibatches", "2", "--update-epochs", "1"),
    *("--total-steps", "32", "--evaluation-episodes", "2", "--no-memoryless-twin"),
)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Return the folder with a wheel, built from the source distribution beside it."""
    source, output = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    ignore = shutil.ignore_patterns(".*", "build", "dist", "runs", "site", "*.egg-info")
    shutil.copytree(ROOT, source, ignore=ignore, dirs_exist_ok=True)
    # What it is built with is a development dependency, so that nothing has to be downloaded.
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", output, source]
    subprocess.run(command, check=True, cwd=source, capture_output=True)
    return output


def files_of(package):
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_an_old_python_is_refused_in_one_line(monkeypatch):
    importlib.import_module("setuptools")  # As it is on the Python that runs this.
    monkeypatch.setattr(sys, "version_info", (3, 10, 13))
    with pytest.raises(SystemExit, match=r"^memorax needs Python 3.11 or newer, and this is \S+$"):
        runpy.run_path(str(ROOT / "setup.py"))


@pytest.mark.exhaustive
def test_what_is_built_has_the_package_and_nothing_else(built):
    (wheel,), (source,) = built.glob("*.whl"), built.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = next(name for name in names if name.endswith("METADATA"))
        assert "License-Expression: Apache-2.0" in archive.read(metadata).decode()
    packed = {name for name in names if ".dist-info/" not in name}
    assert packed == files_of("memorax")
    assert "memorax/py.typed" in packed
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    with tarfile.open(source) as archive:
        inside = {member.name.partition("/")[2] for member in archive if member.isfile()}
    assert {"LICENSE", "README.md", "pyproject.toml"} <= inside
    assert {name for name in inside if name.startswith("memorax/")} == packed
    assert not any(name.startswith(("tests", "benchmarks", "docs", "examples")) for name in inside)


@pytest.mark.exhaustive
def test_the_wheel_trains_where_the_repository_is_not(built, tmp_path):
    (wheel,) = built.glob("*.whl")
    target = tmp_path / "installed"
    options = ["--no-deps", "--no-index", "--quiet", "--target", target]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, wheel], check=True)
    (tmp_path / "empty").mkdir()
    run = [sys.executable, "-P", "-c", TRAIN, str(target), *SMALL, "--run-folder", "run"]
    environment = os.environ | {"PYTHONPATH": str(target)}
    subprocess.run(run, check=True, cwd=tmp_path / "empty", env=environment)
    assert [path.name for path in (tmp_path / "empty").iterdir()] == ["run"]
    assert (tmp_path / "empty" / "run" / "evaluation.json").is_file()
