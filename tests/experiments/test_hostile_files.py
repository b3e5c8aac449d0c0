import json
import os
import random
import sys

import numpy as np
import pytest

from memorax.experiments.cli.command_line import main
from memorax.experiments.run import config
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.folder import RunFolder
from memorax.experiments.study import comparison_config, sweep_config
from memorax.experiments.study.comparison_config import CompareConfig
from memorax.experiments.study.run_result import read_result
from memorax.experiments.study.sweep_config import SweepConfig
from memorax.experiments.study.trial import Ending, Trial
from tests.experiments.mutations import mutate_bytes, mutate_json

MUTATIONS = 250
KINDS = {
    "run": (TrainConfig(), config),
    "comparison": (CompareConfig(), comparison_config),
    "sweep": (SweepConfig(("learning-rate=log:1e-4:1e-2", "torso=gru,lstm")), sweep_config),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_mutated_configuration_is_refused_or_means_what_it_says(kind, tmp_path):
    original, module = KINDS[kind]
    text = module.to_json(original)
    path = tmp_path / "config.json"
    refusals = []
    for case in range(MUTATIONS):
        draw = random.Random(case)
        mutated = (
            mutate_bytes(text.encode(), draw)
            if case % 2
            else mutate_json(json.loads(text), draw).encode()
        )
        path.write_bytes(mutated)
        try:
            loaded = module.from_json(path)
        except ValueError as error:
            refusals.append(str(error))
        else:
            # Integers may stand for others.
            said = json.loads(mutated, parse_int=float)
            meant = json.loads(module.to_json(loaded), parse_int=float)
            assert json.dumps(said, sort_keys=True) == json.dumps(meant, sort_keys=True)
    assert all(told.startswith(f"{path} holds no configuration") for told in refusals)
    assert max(map(len, refusals)) < 3_000
    # Most mutations leave no configuration, some a different one.
    assert MUTATIONS * 0.7 < len(refusals) < MUTATIONS


def write_fields(path, kind="run", **changes):
    original, module = KINDS[kind]
    fields = json.loads(module.to_json(original)) | changes
    path.write_text(json.dumps(fields))
    return module.from_json


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": "64"}, "features must be an integer of 64 bits, got '64'"),
        ({"features": 64.0}, "features must be an integer of 64 bits, got 64.0"),
        ({"features": True}, "features must be an integer of 64 bits, got True"),
        ({"features": 2**64}, "features must be an integer"),
        ({"features": [64]}, "features must be an integer"),
        ({"features": {"a": 1}}, "features must be an integer"),
        ({"learning_rate": "1e-3"}, "learning_rate must be a number, got '1e-3'"),
        ({"learning_rate": None}, "learning_rate must be a number, got None"),
        ({"anneal_learning_rate": 1}, "anneal_learning_rate must be true or false, got 1"),
        ({"torso": 3}, "torso must be a text"),
        ({"torso": "../../x"}, "unknown torso '../../x'"),
        ({"torso": "x" * 2000}, "torso must be a text of at most 1,000 characters"),
        ({"environment": "memory::\x1b[2J"}, "environment must be a text .* that can be printed"),
        ({"environment": "../../x"}, "an environment is named 'suite::name', got '../../x'"),
        ({"value_range": [1]}, "value_range must be a list of 2, got 1"),
        ({"value_range": "ab"}, "value_range must be a list, got 'ab'"),
        ({"environment_parameters": [1]}, "environment_parameters must be a text"),
        ({"algorithm": 1}, "has no attribute"),
        ({"algorithm": {"name": "os"}}, "unknown algorithm 'os'"),
        ({"algorithm": {"name": 0}}, "algorithm/name must be a text, got 0"),
        ({"algorithm": {"name": "ppo"}}, "algorithm/num_envs: missing, its default is 16"),
        ({"__class__": "x"}, "__class__: unexpected, the file has 'x'"),
        ({"environment": "gymnasium::antigravity:x"}, "would import the module 'antigravity'"),
        ({"environment": "minigrid::antigravity:x"}, "would import the module 'antigravity'"),
    ],
)
def test_a_run_of_wrong_types_is_refused(changes, message, tmp_path):
    path = tmp_path / "config.json"
    from_json = write_fields(path, **changes)
    with pytest.raises(ValueError, match=message):
        from_json(path)
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"environments": ".."}, "environments must be a list"),
        ({"environments": [".."]}, "an environment is named 'suite::name', got '..'"),
        ({"torsos": ["gru", "../x"]}, "unknown torso '../x'"),
        ({"return_ranges": [[0, "1"]]}, "return_ranges must be a number, got '1'"),
        ({"return_ranges": [[0]]}, "return_ranges must be a list of 2, got 1"),
        ({"ppo": []}, r"PPOConfig must be an object, got \[\]"),
        ({"environments": ["gymnasium::antigravity:x a=1"]}, "would import the module"),
    ],
)
def test_a_comparison_of_wrong_types_is_refused(changes, message, tmp_path):
    path = tmp_path / "config.json"
    from_json = write_fields(path, "comparison", **changes)
    with pytest.raises(ValueError, match=message):
        from_json(path)
    assert "antigravity" not in sys.modules


def test_all_fields_of_wrong_types_are_reported_by_their_paths(tmp_path):
    fields = config.to_fields(TrainConfig(num_layers=2))
    fields |= {"features": "8", "value_range": [0, "1"]}
    fields["algorithm"]["gamma"] = "a"
    (tmp_path / "config.json").write_text(json.dumps(fields))
    with pytest.raises(ValueError, match="configuration of a run: ") as refused:
        config.from_json(tmp_path / "config.json")
    assert str(refused.value).partition("of a run: ")[2].split("; ") == [
        "features must be an integer of 64 bits, got '8'",
        "value_range must be a number, got '1'",
        "algorithm/gamma must be a number, got 'a'",
    ]


def test_a_module_that_the_user_has_chosen_may_be_imported(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    from_json = write_fields(path, environment="gymnasium::some_tasks:Task-v0")
    monkeypatch.setenv("MEMORAX_IMPORT", "other_tasks,some_tasks")
    assert from_json(path).environment == "gymnasium::some_tasks:Task-v0"
    monkeypatch.delenv("MEMORAX_IMPORT")
    monkeypatch.setitem(sys.modules, "some_tasks", sys)
    assert from_json(path).environment == "gymnasium::some_tasks:Task-v0"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 50_000, "nested too deeply"),
        ('{"a": ' * 10_000, "nested too deeply"),
        ("[1" + ", 1" * 50_000 + "]", "it may have 65,536 bytes at most, and has 150,003"),
        ('{"seed": ' + "1" * 10_000 + "}", "Exceeds the limit"),
        ('{"seed": NaN}', "NaN is not a finite number"),
        ('{"seed": Infinity}', "Infinity is not a finite number"),
        ('{"seed": 1, "seed": 2}', "'seed' occurs twice"),
        ('{"\ud800": 1}', "utf-8"),
        ("[]", "list indices must be integers"),
        ("{}", "'algorithm' is missing"),
    ],
)
def test_json_that_is_meant_to_do_harm_is_refused(text, message, tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(ValueError, match=message):
        config.from_json(path)


def test_a_number_may_be_whole_where_any_is_expected(tmp_path):
    path = tmp_path / "config.json"
    assert write_fields(path, learning_rate=1)(path).learning_rate == 1


@pytest.mark.parametrize("name", ["metrics.csv", ".timing.json.partial", "checkpoints"])
def test_a_folder_whose_links_lead_elsewhere_is_refused(name, tmp_path, capsys):
    run, outside = tmp_path / "run", tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("untouched")
    folder = RunFolder.create(run, TrainConfig())
    (run / name).symlink_to(outside if name == "checkpoints" else outside / "file")
    with pytest.raises(ValueError, match=f"{name} is a link that leads out of"):
        RunFolder.open(run)
    for command in (["evaluate", str(run)], ["train", "--run-folder", str(run), "--resume"]):
        assert main(command) == 2
        assert "is a link that leads out of" in capsys.readouterr().err
    assert [path.name for path in outside.iterdir()] == ["file"]
    assert (outside / "file").read_text() == "untouched"
    (run / name).unlink()
    (run / "latest").symlink_to("config.json")
    assert RunFolder.open(run).config() == folder.config()


def test_a_folder_with_something_to_wait_for_is_refused(tmp_path):
    RunFolder.create(tmp_path / "run", TrainConfig())
    os.mkfifo(tmp_path / "run" / "metrics.csv")
    with pytest.raises(ValueError, match=r"metrics.csv is neither a file nor a folder"):
        RunFolder.open(tmp_path / "run")


GOOD_EVALUATION = (
    '[{"model": "gru", "seed_returns": [1, 2], "num_parameters": 1, "carry_bytes": 1, '
    '"num_ended": 2, "num_cut_off": 0}]'
)
RESULT = {
    "evaluation.json": GOOD_EVALUATION,
    "timing.json": '{"gru": {"steps": 10, "seconds": 2.0}}',
    "metrics.csv": "model,seed,step,num_episodes,episode_return\ngru,0,5,1,1\ngru,1,5,1,2\n",
}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("evaluation.json", "[]"),
        ("evaluation.json", '{"model": "gru"}'),
        ("evaluation.json", GOOD_EVALUATION.replace("[1, 2]", '["x"]')),
        ("evaluation.json", GOOD_EVALUATION.replace("gru", "../../gru")),
        ("evaluation.json", "[" * 100_000),
        ("timing.json", "[]"),
        ("timing.json", '{"gru": 1}'),
        ("timing.json", '{"gru": {"steps": 10, "seconds": 0}}'),
        ("metrics.csv", "model,seed\ngru,0\n"),
        ("metrics.csv", RESULT["metrics.csv"].replace("gru,1,5", "gru,1,x")),
        ("metrics.csv", RESULT["metrics.csv"].replace("gru,1,5,1", "gru,1,5,-1")),
        ("metrics.csv", RESULT["metrics.csv"].replace("gru,1,5", "gru,2,5")),
        ("metrics.csv", RESULT["metrics.csv"] + "gru,0,10,1,1\n"),
        ("evaluation.json", GOOD_EVALUATION.replace("0}", '0, "sampled": {}}')),
    ],
)
def test_what_a_run_has_left_is_refused_where_it_makes_no_sense(name, text, tmp_path):
    folder = RunFolder(tmp_path)
    for file, good in RESULT.items():
        folder.write(file, good)
    # Written before the evaluation with sampled actions was kept.
    result = read_result(folder)
    assert result.steps_per_second == 5
    assert np.isnan(result.sampled_returns).all()
    np.testing.assert_array_equal(result.best_returns, [1, 2])
    assert Trial(0, {}, TrainConfig(), folder).score == 1.5
    folder.write(name, text)
    with pytest.raises(ValueError, match="holds no result of a run"):
        read_result(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "Ending must be an object"),
        ("{}", "outcome: missing"),
        ('{"outcome": "won", "why": "", "reports": []}', "outcome must be one of finished, "),
        ('{"outcome": "pruned", "why": 1, "reports": []}', "why must be a text"),
        ('{"outcome": "pruned", "why": "", "reports": ["1"]}', "reports must be a number"),
        ('{"outcome": "pruned", "why": "", "reports": [1], "x": 1}', "x: unexpected"),
        ("[" * 60_000, "nested too deeply"),
    ],
)
def test_an_ending_of_a_trial_that_makes_no_sense_is_refused(text, message, tmp_path):
    trial = Trial(0, {}, TrainConfig(), RunFolder(tmp_path))
    trial.end(Ending("pruned", "it was worse", (1.0, None)))
    assert trial.ending == Ending("pruned", "it was worse", (1.0, None))
    trial.folder.write("trial.json", text)
    with pytest.raises(ValueError, match=f"holds no ending of a trial: .*(?s:.*){message}"):
        _ = trial.ending
