import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def make(tmp_path):
    """Return a function that calls ``make`` in an empty clone, on a machine with these Pythons."""
    clone = tmp_path / "clone"
    clone.mkdir()
    shutil.copy(ROOT / "Makefile", clone)
    for name in ("pyproject.toml", "constraints.txt"):
        (clone / name).touch()

    def make(*arguments, pyenv=(), **versions):
        commands = {
            tmp_path / name.replace("_", "."): version for name, version in versions.items()
        }
        kept = tmp_path / "pyenv" / "versions"
        for version in pyenv:
            minor = version.rpartition(".")[0]
            commands[kept / version / "bin" / f"python{minor}"] = minor
        for command, version in commands.items():
            command.parent.mkdir(parents=True, exist_ok=True)
            # pyenv has a command for every version that it keeps, most of which cannot be run.
            command.write_text(
                f"#!/bin/sh\necho {version}\n" if version else "#!/bin/sh\nexit 127\n"
            )
            command.chmod(0o755)
        # Not those of the make that runs these tests.
        settings = {name: value for name, value in os.environ.items() if name in ("HOME", "LANG")}
        settings |= {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYENV_ROOT": str(kept.parent)}
        command = ["make", "--no-print-directory", "--directory", clone, *arguments]
        return subprocess.run(command, env=settings, capture_output=True, text=True, check=False)

    return make


def test_the_first_supported_python_is_taken_and_named(make):
    made = make(
        "test", "--dry-run", python3="3.10", python3_13=None, python3_12="3.12", python3_11="3.11"
    )
    assert 'echo "Python 3.12: python3.12, installed in .venv"' in made.stdout
    made = make("demo", "--dry-run", python3="3.11", python3_13="3.13")
    assert 'echo "Python 3.11: python3, installed in .venv"' in made.stdout


def test_the_demo_installs_what_it_needs_unless_more_is_installed(make, tmp_path):
    made = make("demo", "--dry-run", python3="3.11")
    (installing,) = (line for line in made.stdout.splitlines() if "pip install" in line)
    assert installing.endswith("--editable '.[envs]'")
    assert "--quiet" not in installing
    stamp = tmp_path / "clone" / ".venv" / ".installed-3.11"
    stamp.parent.mkdir()
    stamp.touch()
    made = make("demo", "--dry-run", python3="3.11")
    assert "pip install" not in made.stdout
    assert ".venv/bin/memorax train" in made.stdout


def test_each_python_has_an_environment_of_its_own(make):
    made = make("test", "--dry-run", "PYTHON=python3.13", python3="3.11", python3_13="3.13")
    assert 'echo "Python 3.13: python3.13, installed in .venv-3.13"' in made.stdout
    assert ".venv-3.13/bin/pytest" in made.stdout
    assert ".venv/" not in made.stdout
    made = make("test", "--dry-run", "PYTHON=python3.11", python3="3.11", python3_11="3.11")
    assert 'echo "Python 3.11: python3.11, installed in .venv"' in made.stdout


@pytest.mark.parametrize(
    ("version", "words"), [("3.10", "is 3.10"), ("3.14", "is 3.14"), (None, "cannot be run")]
)
def test_a_python_that_is_not_supported_is_refused_in_one_line(make, version, words):
    made = make("test", "--dry-run", "PYTHON=other", python3="3.11", other=version)
    assert made.returncode == 2
    (line,) = (line for line in made.stderr.splitlines() if "***" in line)
    assert f"memorax needs Python 3.11, 3.12 or 3.13, other {words}." in line
    assert made.stdout == ""


def test_the_short_tests_run_on_every_python_of_the_path_and_of_pyenv(make):
    pythons = {"python3": "3.11", "python3_13": None, "python3_12": None, "python3_11": "3.11"}
    made = make("test-pythons", "--dry-run", pyenv=["3.10.13", "3.12.1"], **pythons)
    (found,) = (line for line in made.stdout.splitlines() if line.startswith("found: "))
    assert [Path(path).name for path in found.split()[1:]] == ["python3.12", "python3"]
    assert "\n.venv-3.12/bin/pytest" in made.stdout
    made = make("test-other-pythons", "--dry-run", pyenv=["3.12.1"], **pythons)
    (found,) = (line for line in made.stdout.splitlines() if line.startswith("found: "))
    assert [Path(path).name for path in found.split()[1:]] == ["python3.12"]


def test_a_python_that_fails_fails_the_target_after_all_have_run(make):
    # It makes no environment, so that its first step fails.
    made = make("test-pythons", pyenv=["3.12.1"], python3="3.11", python3_13=None, python3_12=None)
    assert made.returncode == 2
    (failed,) = (line for line in made.stdout.splitlines() if line.startswith("failed:"))
    assert [Path(path).name for path in failed.split()[1:]] == ["python3.12", "python3"]
