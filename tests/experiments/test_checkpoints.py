import math
import resource
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax.experiments.cli.reported_errors import hide_reported_errors
from memorax.experiments.run.checkpoints import Checkpoints
from memorax.experiments.run.folder import RunFolder
from tests.experiments.states import make_state, save_all, values

MEBIBYTE = 2**20


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path)


def steps_left(folder):
    path = folder.path / "checkpoints" / "gru"
    return sorted(int(step.name) for step in path.iterdir())


def test_all_of_a_state_comes_back(folder):
    save_all(folder, [0.0])
    step, state = Checkpoints(folder, "gru").restore(make_state())
    assert step == 1
    assert jax.tree.structure(state) == jax.tree.structure(make_state())
    jax.tree.map(np.testing.assert_array_equal, values(state), values(make_state(1)))
    assert Checkpoints(folder, "mlp").restore(make_state()) is None


def test_a_state_that_is_donated_while_it_is_written_is_saved_as_it_was(folder):
    advance = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf + 1, state), donate_argnums=0)
    like = {"large": jnp.zeros(32 * MEBIBYTE // 4)}
    state = jax.tree.map(jnp.copy, like)
    checkpoints = Checkpoints(folder, "gru", 3)
    saved = []
    for step in range(3):
        checkpoints.save(step, state)
        saved.append(float(state["large"][0]))
        # Donated again and again, so that what is written would be written over.
        for _ in range(5):
            state = advance(state)
        assert not state["large"].is_deleted()
    checkpoints.close()
    assert saved == [0, 5, 10]
    for value in reversed(saved):
        checkpoints = Checkpoints(folder, "gru", 3)
        step, state = checkpoints.restore(like)
        np.testing.assert_array_equal(state["large"], np.full(like["large"].shape, value))
        checkpoints._manager.delete(step)


def test_the_last_and_the_best_are_kept(folder):
    save_all(folder, [1.0, 3.0, math.nan, 3.0, 2.0, 0.0, math.nan], keep=2)
    assert steps_left(folder) == [4, 6, 7]
    checkpoints = Checkpoints(folder, "gru")
    assert checkpoints.restore(make_state(), "last")[0] == 7
    step, state = checkpoints.restore(make_state(), "best")
    assert step == 4
    np.testing.assert_array_equal(state["params"]["kernel"], 4)
    # The best is known again when the run goes on.
    checkpoints = Checkpoints(folder, "gru", 2)
    checkpoints.save(8, make_state(8), 2.5)
    checkpoints.close()
    assert steps_left(folder) == [4, 7, 8]


def test_a_return_that_nobody_has_is_never_best(folder, as_a_user):
    save_all(folder, [math.nan] * 4)
    assert steps_left(folder) == [3, 4]
    with pytest.raises(ValueError, match="holds no best checkpoint"):
        Checkpoints(folder, "gru").restore(make_state(), "best")
    with pytest.raises(ValueError, match="unknown checkpoint 'bets'; the closest are: best"):
        Checkpoints(folder, "gru").restore(make_state(), "bets")


def test_reading_writes_nothing(folder):
    assert Checkpoints(folder, "gru").last_step is None
    assert not list(folder.path.iterdir())


def test_a_state_that_does_not_fit_is_told_entry_by_entry(folder):
    save_all(folder, [0.0])
    other = make_state(features=5)
    other["params"]["scale"] = other["params"].pop("bias")
    with pytest.raises(ValueError, match="does not fit the configuration") as caught:
        Checkpoints(folder, "gru").restore(other)
    assert str(caught.value).splitlines()[1:] == [
        "params/bias: unexpected, checkpoint has float32 (3,)",
        "params/kernel: checkpoint has float32 (2, 3), the configuration makes float32 (2, 5)",
        "params/scale: missing, the configuration makes float32 (5,)",
    ]
    other = make_state() | {"carry": (jnp.float32(3), ())}
    with pytest.raises(ValueError, match=r"carry/0: checkpoint has int32 \(\), .* float32 \(\)"):
        Checkpoints(folder, "gru").restore(other)


def test_environments_of_an_earlier_version_are_refused_in_one_line(folder):
    checkpoints = Checkpoints(folder, "gru", 3)
    checkpoints.save(7, make_state() | {"env_state": {"time": jnp.int32(3)}})
    checkpoints.close()
    checkpoints, other = Checkpoints(folder, "gru"), {"env_state": {"steps": jnp.int32(3)}}
    with pytest.raises(ValueError, match="environments of an earlier version") as caught:
        checkpoints.restore(make_state() | other)
    assert len(str(caught.value).splitlines()) == 1


def test_a_replay_that_flashbax_kept_is_refused_in_one_line(folder):
    replay = {"experience": jnp.zeros((2, 4)), "current_index": 3, "is_full": jnp.bool_(False)}
    checkpoints = Checkpoints(folder, "gru", 3)
    checkpoints.save(7, make_state() | {"replay": replay})
    checkpoints.close()
    with pytest.raises(ValueError, match="replay of an earlier version of memorax") as caught:
        Checkpoints(folder, "gru").restore(make_state())
    (line,) = str(caught.value).splitlines()
    assert str(folder.path / "checkpoints" / "gru" / "7") in line


DAMAGES = {
    "truncated": lambda content: content[: len(content) // 2],
    "changed": lambda content: content[:-3] + bytes([content[-3] ^ 255]) + content[-2:],
    "lost": lambda content: None,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_told_or_does_no_harm(folder, damage):
    save_all(folder, [0.0, 1.0])
    path = folder.path / "checkpoints" / "gru" / "2"
    told = []
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        content = file.read_bytes()
        damaged = DAMAGES[damage](content)
        file.unlink() if damaged is None else file.write_bytes(damaged)
        try:
            _, state = Checkpoints(folder, "gru").restore(make_state())
        except ValueError as error:
            told.append(str(error))
        else:
            jax.tree.map(np.testing.assert_array_equal, values(state), values(make_state(2)))
        file.write_bytes(content)
    assert len(told) >= 3
    for words in told:
        assert words.startswith(f"checkpoint {path} is damaged (")
        assert words.endswith("); without it, there is still that of step 1")


def test_what_cannot_be_written_is_an_os_error_and_what_is_there_stays(folder, capfd):
    hide_reported_errors()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    checkpoints = Checkpoints(folder, "gru", 1)
    checkpoints.save(1, make_state(1))
    checkpoints.wait()
    large = {"large": jax.random.normal(jax.random.key(0), (MEBIBYTE,))}
    resource.setrlimit(resource.RLIMIT_FSIZE, (MEBIBYTE, limit[1]))
    try:
        checkpoints.save(2, large)
        with pytest.raises(OSError, match="File too large"):
            checkpoints.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert steps_left(folder) == [1]
    assert checkpoints.last_step == 1
    checkpoints.save(3, make_state(3))
    checkpoints.close()
    assert steps_left(folder) == [3]
    assert "Traceback" not in capfd.readouterr().err


def test_half_of_a_save_is_never_taken_for_a_checkpoint(folder):
    save_all(folder, [0.0, 0.0])
    script = """
import os, signal, sys
from pathlib import Path
import jax.numpy as jnp
from memorax.experiments.run.checkpoints import Checkpoints
from memorax.experiments.run.folder import RunFolder
checkpoints = Checkpoints(RunFolder(Path(sys.argv[1])), "gru", 2)
checkpoints.save(3, {"large": jnp.zeros(2**24)})
while not list(checkpoints.path.glob("3.*")):
    pass
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script, str(folder.path)], check=False)
    assert done.returncode == -9
    assert list((folder.path / "checkpoints" / "gru").glob("3.*"))
    assert Checkpoints(folder, "gru").restore(make_state())[0] == 2
    checkpoints = Checkpoints(folder, "gru", 2)
    assert checkpoints.last_step == 2
    checkpoints.save(3, make_state(3))
    checkpoints.close()
    assert steps_left(folder) == [2, 3]
