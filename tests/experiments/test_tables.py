"""What the tables of the terminal show, however wide it is."""

import io
import re

import numpy as np
import pytest
from rich.console import Console

from memorax.experiments.loggers.csv_logger import CsvLogger
from memorax.experiments.loggers.logger import LoggedModel
from memorax.experiments.play.episode import Episode, Moment
from memorax.experiments.play.terminal import show
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.evaluation import Evaluation, Returns, table
from memorax.experiments.run.folder import RunFolder, read_curves
from memorax.experiments.run.program import steps_to_train
from memorax.experiments.study.comparison_config import CompareConfig
from memorax.experiments.study.comparison_table import ALL_TASKS, make_table
from memorax.experiments.study.results import Row

TASK = "memory::MemoryChain memory_length=24"


def shown(printed, width):
    console = Console(file=io.StringIO(), width=width, markup=False)
    console.print(printed)
    return console.file.getvalue()


def row(model, reached, efficiency, task=TASK):
    return Row(
        *(task, model, reached, -1.23456, 1.0, 0.75, efficiency),
        *(1_234_567, 12_345_678, 1_234_567.0, [reached], 256, 0),
    )


ROWS = [row("gated_linear_attention", 0.9, 0.5), row("mlp", 0.1, -0.415)]
CONFIG = CompareConfig(environments=(TASK,), torsos=("mlp", "gated_linear_attention"))


@pytest.mark.parametrize("width", [80, 120])
def test_a_comparison_shows_every_value_whole(width):
    told = shown(make_table(CONFIG, ROWS, {}).rich(), width)
    assert all(len(line) <= width for line in told.splitlines())
    for value in ("[-1.235, 1.000]", "1,234,567", "12,345,678", "75%"):
        assert told.count(value) >= 2, value
    assert told.count("│ gated_linear_attention │") == {80: 3, 120: 2}[width]
    assert TASK in told


@pytest.mark.parametrize("width", [80, 120])
def test_an_evaluation_of_many_seeds_shows_every_value_whole(width):
    returns = [-0.1 - seed for seed in range(20)]
    reached = Returns(returns, 0.5, -0.25, 0.75, 1, 0)
    evaluation = Evaluation(
        **vars(reached),
        model="kimi_delta_attention",
        num_parameters=9,
        carry_bytes=9,
        num_episodes=256,
        max_steps=99,
        sampled=reached,
        best_seed_returns=returns,
        best_return=0.5,
    )
    told = shown(table(TrainConfig(num_seeds=20), [evaluation]), width)
    assert all(len(line) <= width for line in told.splitlines())
    assert re.findall(r"-\d+\.100", told) == [f"{value:.3f}" for value in returns]
    assert "[-0.250, 0.750]" in told


@pytest.mark.parametrize("width", [80, 120])
def test_an_episode_is_shown_whole_with_its_title(width):
    task = "memory::LabyrinthExploreHard " + " ".join(f"parameter_{n}={n}" for n in range(6))
    picture = "\n".join(["x" * 48] * 3)
    moments = [Moment(picture, None, np.array(1), 0.0, 0.0)]
    terminal = {"force_terminal": True, "color_system": None}
    console = Console(file=io.StringIO(), width=width, markup=False, **terminal)
    show([Episode(task, moments, np.zeros((2, 1)), ended=True)], "gru", console, 1000)
    # The last of the frames, each of which is drawn over the one before it.
    frame = console.file.getvalue().rpartition("\x1b[2K")[2]
    told = re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", frame)
    assert all(len(line) <= width for line in told.splitlines())
    assert told.count("x" * 48) == 3
    assert all(word in told for word in task.split())
    assert "memory of gru" in told


def efficiencies(config, rows):
    made = make_table(config, rows, {})
    if "sample efficiency" not in made.header:
        return None
    (cells,) = made.groups.values()
    return [line[made.header.index("sample efficiency")] for line in cells]


def test_sample_efficiency_is_a_share_from_the_twin_to_the_best_or_left_out():
    assert efficiencies(CONFIG, ROWS) == ["0.500", ""]
    only = CompareConfig(environments=(TASK,), torsos=("gated_linear_attention",))
    assert efficiencies(only, ROWS[:1]) is None
    ranged = CompareConfig(environments=(TASK,), return_ranges=((-1.0, 1.0),))
    assert efficiencies(ranged, ROWS) == ["0.750", "0.292"]
    assert efficiencies(ranged, [row("gru", 0.5, 0.25, ALL_TASKS)]) == ["0.250"]


def test_steps_are_those_that_are_trained():
    assert steps_to_train(TrainConfig(total_steps=20_000)) == 20_480
    config = CompareConfig(environments=(TASK,), algorithms=("ppo", "dqn"), total_steps=20_100)
    assert "played after 20,480 steps" in make_table(config, [], {}).notes[0]


def test_what_is_missing_is_an_empty_cell_of_the_metrics(tmp_path):
    folder = RunFolder.create(tmp_path / "run", TrainConfig())
    console = Console(file=io.StringIO())
    logged = LoggedModel(folder, "gru", 0, 64, console)
    logger = CsvLogger(logged)
    logger.log([32, 64], {"episode_return": np.array([[np.nan, 0.5]])}, 1.0)
    logger.close()
    lines = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert lines[1:] == ["gru,0,32,", "gru,0,64,0.5"]
    steps, returns = read_curves(folder)["gru"]
    np.testing.assert_array_equal(steps, [32, 64])
    np.testing.assert_array_equal(returns, [[np.nan, 0.5]])
