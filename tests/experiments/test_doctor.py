import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import memorax
from memorax import environments
from memorax.algorithms import PPOConfig
from memorax.catalog.suites import SUITES, Suite
from memorax.experiments.cli import doctor
from memorax.experiments.cli.command_line import main
from memorax.experiments.run.config import TrainConfig

SMALL = TrainConfig(
    environment="memory::MemoryChain",
    environment_parameters=("memory_length=3",),
    torso="mlp",
    features=4,
    algorithm=PPOConfig(num_envs=2, num_steps=4, num_minibatches=1, update_epochs=1),
)


def another_project(folder):
    """Install this project, and another one that is called memorax, into a folder."""
    for name, version in (("memorax-rl", "0.1"), ("memorax", "9.9")):
        information = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        information.mkdir(parents=True)
        (information / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: It is {name}.\n"
        )
    return folder


def test_the_page_describes_the_machine_and_every_suite_and_times_the_demo(
    capsys, monkeypatch, tmp_path
):
    (tmp_path / "broken.py").write_text("raise RuntimeError('needs an older NumPy')\n")
    monkeypatch.syspath_prepend(another_project(tmp_path))
    for other in SUITES.keys() - {"memory"}:
        monkeypatch.delitem(SUITES, other)
    monkeypatch.setitem(SUITES, "broken", Suite("broken", (), "broken"))
    monkeypatch.setitem(SUITES, "missing", Suite("missing", ("no_such_package",), "missing"))
    cache = tmp_path / "cache"
    (cache / "memorax" / "jax").mkdir(parents=True)
    (cache / "memorax" / "jax" / "program").write_bytes(bytes(2_500_000))
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setitem(doctor.PARTS, "training the demo", lambda: doctor.time_training(SMALL))
    assert main(["doctor"]) == 0
    told = capsys.readouterr().out
    assert told.isascii(), "it can be pasted anywhere"
    assert f"  memorax {memorax.__version__} in " in told
    assert f"\n  distribution memorax-rl 0.1 in {tmp_path}: It is memorax-rl.\n" in told
    assert f"\n  distribution memorax 9.9 in {tmp_path}: It is memorax.\n" in told
    assert "\n  FAILED: memorax 9.9, another project, is installed into the same folder" in told
    assert f"  Python {sys.version.split()[0]}, " in told
    assert re.search(r"\n  jax \d+\.", told)
    assert re.search(r"\n  \d+\.\d GB of memory", told)
    assert "\n  JAX device 0: cpu, cpu" in told
    assert f"\n  XDG_CACHE_HOME={cache}" in told
    number = len(environments.names("memory"))
    assert re.search(rf"\n  memory: {number} environments, imported in \d+\.\d s\n", told)
    assert "broken: FAILED: broken cannot be imported: RuntimeError: needs an older NumPy" in told
    assert "missing: not installed: pip install 'memorax-rl[missing]'" in told
    assert f"{cache / 'memorax'}: 1 files, 2.5 MB" in told
    assert re.search(r"\n  compiled in \d+\.\d s, without the cache\n", told)
    assert re.search(
        r"\n  10 updates of 3 agents in \d+\.\d\d s, [\d,]+ environment steps/s\n", told
    )


def test_the_demo_is_what_is_timed(monkeypatch):
    timed = []
    monkeypatch.setattr(doctor, "time_training", lambda config: timed.append(config) or [])
    assert not list(doctor.training())
    assert timed == [TrainConfig()]


def test_a_broken_installation_is_described_too(tmp_path):
    (tmp_path / "jax.py").write_text("raise ImportError('jaxlib does not fit:\\nthis jax')\n")
    path = os.pathsep.join([str(tmp_path), str(Path(memorax.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-m", "memorax", "doctor"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert done.returncode == 1
    assert not done.stderr
    assert "training the demo:\n  FAILED: ImportError: jaxlib does not fit: this jax" in done.stdout
    assert f"Python {sys.version.split()[0]}" in done.stdout


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"memorax in {Path.home() / 'a' / 'b'}", f"memorax in {Path('~/a/b')}"),
        (f"XDG_CACHE_HOME={Path.home()}/.cache", "XDG_CACHE_HOME=~/.cache"),
        ("Python in /opt/a", "Python in /opt/a"),
    ],
)
def test_lines_are_printed_without_the_home_folder(line, expected):
    assert doctor.without_user(line) == expected
