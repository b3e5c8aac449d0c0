import pwd
from pathlib import Path

import jax
import pytest

from memorax.cache_folder import user_cache_folder
from memorax.experiments.cli.compilation_cache import enable_compilation_cache


@pytest.fixture
def without_home(monkeypatch):
    """Be a user id that has neither HOME nor an entry, as in many containers."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def no_entry(user_id):
        raise KeyError(f"getpwuid(): uid not found: {user_id}")

    monkeypatch.setattr(pwd, "getpwuid", no_entry)


@pytest.fixture
def without_jax_cache():
    """Have JAX keep no compiled programs, and put it back."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: jax.config.values[name] for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_the_cache_is_where_the_user_says(monkeypatch, without_home):
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert user_cache_folder() == Path("/caches/memorax")


@pytest.mark.parametrize("unset", ["", "caches"])
def test_no_absolute_path_counts_as_none_as_the_specification_says(unset, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", unset)
    monkeypatch.setenv("HOME", "/users/her")
    assert user_cache_folder() == Path("/users/her/.cache/memorax")


def test_without_a_home_there_is_no_compilation_cache_which_is_said_in_one_line(
    without_home, without_jax_cache, capsys
):
    assert user_cache_folder() is None
    enable_compilation_cache()
    assert jax.config.values["jax_compilation_cache_dir"] is None
    (line,) = capsys.readouterr().err.splitlines()
    assert "no compilation cache" in line
    assert "XDG_CACHE_HOME" in line


def test_without_a_home_the_cache_named_for_it_is_used_in_silence(
    without_home, without_jax_cache, monkeypatch, capsys, tmp_path
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    enable_compilation_cache()
    assert jax.config.values["jax_compilation_cache_dir"] == str(tmp_path / "memorax" / "jax")
    assert not capsys.readouterr().err
