import importlib.util

import pytest

from benchmarks import rivals


def test_a_benchmark_without_its_rival_names_the_extra_and_exits_with_2(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as ended:
        rivals.check_stable_baselines()
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert "sb3_contrib is not installed: pip install 'memorax-rl[benchmarks]'" in error
    assert len(error.splitlines()) == 1
