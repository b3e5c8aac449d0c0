import threading

import pytest

from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.folder import RunFolder
from memorax.experiments.study.comparison import ComparisonFolder
from memorax.experiments.study.comparison_config import CompareConfig
from memorax.experiments.study.sweep import SweepFolder
from memorax.experiments.study.sweep_config import SweepConfig


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        (RunFolder, TrainConfig()),
        (ComparisonFolder, CompareConfig()),
        (SweepFolder, SweepConfig(search=("features=8,16",))),
    ],
)
def test_folders_begun_in_the_same_second_are_different_ones(kind, config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths, begin = [], threading.Barrier(16)

    def create():
        begin.wait()
        paths.append(kind.create(None, config).path)

    threads = [threading.Thread(target=create) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == len(set(paths)) == 16
    assert all(kind.open(path).config() == config for path in paths)
    # The first of a second has the time alone, the next one a 2 behind it.
    assert sum(path.name.endswith("-2") for path in paths) in (1, 2)


def test_a_parent_that_is_no_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"run folder runs/.* cannot be made: .*File exists"):
        RunFolder.create(None, TrainConfig())
