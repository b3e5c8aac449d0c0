import dataclasses
import json
import runpy
import shlex
from pathlib import Path

import pytest

from memorax import environments
from memorax.catalog.algorithms import ALGORITHMS
from memorax.experiments.cli.command_line import main
from memorax.experiments.cli.parsing import parse, take_algorithm_and_preset
from memorax.experiments.cli.train import Train
from memorax.experiments.presets import preset
from memorax.experiments.presets.preset import Reached
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.evaluation import Evaluation, Returns, to_json
from memorax.experiments.run.folder import RunFolder
from memorax.experiments.run.preset import preset_settings, with_preset
from memorax.experiments.study import comparison_config
from memorax.experiments.study.comparison_config import CompareConfig

ROOT = Path(__file__).parents[2]
CONFIG = TrainConfig(
    environment="memory::TMazePassive",
    environment_parameters=("corridor_length=7",),
    torso="lru",
    algorithm=ALGORITHMS["pqn"].config(gamma=0.9, num_envs=4),
    learning_rate=0.002,
    total_steps=640_000,
)


@pytest.fixture
def maze(tmp_path, monkeypatch):
    """Return a preset called maze, the only one."""
    reached = {"model": "lru", "seed_returns": [1, 0.5], "sampled_return": 0.7, "best_return": 0.8}
    fields = {
        "description": "A maze.",
        "settings": preset_settings(CONFIG),
        "measured": {"date": "2026-11-29", "reached": [reached]},
    }
    monkeypatch.setattr(preset, "FOLDER", tmp_path / "settings")
    preset.FOLDER.mkdir()
    (preset.FOLDER / "maze.json").write_text(json.dumps(fields))
    return preset.load("maze")


@pytest.mark.parametrize("name", preset.names())
def test_every_preset_is_a_configuration_that_learned(name):
    item = preset.load(name)
    config = with_preset(TrainConfig(), item)
    assert config.algorithm_name == item.algorithm
    assert environments.SUITES[config.environment.partition("::")[0]]
    assert [reached.model for reached in item.measured.reached] == list(config.models)
    assert all(len(model.seed_returns) == config.num_seeds for model in item.measured.reached)
    if len(config.models) == 2:
        memory, twin = (model.seed_returns for model in item.measured.reached)
        assert min(memory) > max(twin), "what the preset shows is what memory is worth"


def test_a_preset_sets_what_it_says_and_an_option_beside_it_overrides_it(maze):
    algorithm, item, rest = take_algorithm_and_preset(
        ["--preset", "maze", "--torso", "gru", "--gamma", "0.5", "--num-seeds", "1"]
    )
    assert (algorithm, item) == ("pqn", maze)
    kind = ALGORITHMS[algorithm].config
    default = Train(with_preset(TrainConfig(algorithm=kind()), item))
    assert default.config == CONFIG
    given = parse(Train[kind], "memorax train", rest, default).config
    changed = dataclasses.replace(CONFIG.algorithm, gamma=0.5)
    expected = dataclasses.replace(CONFIG, torso="gru", algorithm=changed, num_seeds=1)
    assert given == expected


def test_a_preset_is_made_of_a_run_with_what_it_reached(maze, tmp_path):
    run = RunFolder.create(tmp_path / "run", CONFIG)
    returns = Returns([0.25, 0.5001], 0.375, 0.25, 0.5, 6, 0)
    sampled = dataclasses.replace(returns, mean_return=0.1234)
    models = [
        Evaluation(
            **vars(returns),
            **{"model": model, "num_parameters": 1, "carry_bytes": 1, "num_episodes": 3},
            **{"max_steps": 9, "sampled": sampled},
            **{"best_seed_returns": [0.5, 0.5], "best_return": 0.5},
        )
        for model in ("lru", "mlp")
    ]
    run.write("evaluation.json", to_json(models))
    script = runpy.run_path(str(ROOT / "benchmarks" / "make_preset.py"))
    script["main"](script["Options"]("made", run.path, "Made.", date="2026-11-30"))
    made = preset.load("made")
    assert (made.description, made.measured.date) == ("Made.", "2026-11-30")
    assert made.settings == maze.settings
    assert made.measured.reached == (
        Reached("lru", (0.25, 0.5), 0.123, 0.5),
        Reached("mlp", (0.25, 0.5), 0.123, 0.5),
    )


def test_what_a_preset_does_not_set_stays(maze):
    config = with_preset(TrainConfig(seed=3, loggers=("csv",)), maze)
    assert config == dataclasses.replace(CONFIG, seed=3, loggers=("csv",))
    assert with_preset(config, None) is config


def test_a_comparison_takes_task_algorithm_and_settings_and_compares_its_own_torsos(maze):
    config = comparison_config.with_preset(CompareConfig(torsos=("gru", "lru")), maze)
    runs = [run.config for run in config.runs]
    alone = dataclasses.replace(CONFIG, memoryless_twin=False)
    assert runs == [dataclasses.replace(alone, torso=torso) for torso in ("gru", "lru")]


@pytest.mark.parametrize("command", ["train", "sweep", "compare"])
def test_the_help_lists_what_a_preset_sets(command, maze, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([command, "--preset", "maze", "--help-all"])
    told = " ".join(capsys.readouterr().out.split())
    assert "Default: 640000." in told
    assert "Default: 0.9." in told


def test_presets_lists_them_and_shows_what_one_sets_and_reached(maze, capsys):
    assert main(["presets"]) == 0
    listed = " ".join(capsys.readouterr().out.split())
    assert "maze pqn lru 0.75 A maze." in listed
    assert main(["presets", "maze"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert "memorax train --preset maze" in lines
    options = [line for line in lines if line.startswith("--")]
    arguments = shlex.split(" ".join(options))
    algorithm, _, rest = take_algorithm_and_preset(arguments)
    default = Train(TrainConfig(algorithm=ALGORITHMS[algorithm].config()))
    assert (
        parse(Train[ALGORITHMS[algorithm].config], "memorax train", rest, default).config == CONFIG
    )
    assert "lru: 1.000, 0.500; sampled actions 0.700; best in training 0.800" in lines


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("presets maz", "unknown preset 'maz'; the closest are: maze"),
        ("train --preset", "unknown preset ''"),
        ("train --preset maz", "unknown preset 'maz'; the closest are: maze"),
        (
            "train --preset maze --algorithm sac",
            "preset 'maze' is a setting of pqn, got algorithm 'sac'",
        ),
        (
            "compare --preset maze --algorithms pqn ppo",
            "preset 'maze' is a setting of pqn, got algorithm 'ppo'",
        ),
        (
            "train --preset maze --gae-lambda 0.9",
            "--gae-lambda is an option of ppo, and not of pqn",
        ),
        (
            "sweep --batch-size 4",
            "--batch-size is an option of dqn, r2d2, sac, td3, and not of ppo",
        ),
        (
            "compare --preset maze --ppo.gamma 0.9",
            "ppo is not among algorithms, and ppo.gamma is 0.99, got 0.9",
        ),
        (
            "train --preset maze --total-steps 100 --epsilon-decay-steps 200",
            "epsilon_decay_steps must be less than total_steps",
        ),
    ],
)
def test_what_contradicts_a_preset_is_refused_in_one_line(
    arguments, words, maze, capsys, tmp_path, monkeypatch
):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert main(shlex.split(arguments)) == 2
    output = capsys.readouterr().err
    assert words in output
    assert output.count("\n") == 1
    assert not list((tmp_path / "empty").iterdir())


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("description", None, "'description'"),
        ("measured", {"date": "soon", "reached": []}, "Invalid isoformat"),
        ("measured", {"date": "2026-11-29", "reached": []}, "reached must have at least one model"),
    ],
)
def test_a_file_that_is_no_preset_is_refused(name, value, words, maze):
    path = preset.FOLDER / "maze.json"
    fields = json.loads(path.read_text()) | {name: value}
    path.write_text(json.dumps({key: item for key, item in fields.items() if item is not None}))
    with pytest.raises(ValueError, match=f"maze.json holds no preset: .*{words}"):
        preset.load("maze")
