import json

import pytest

from memorax.algorithms import PPOConfig, R2D2Config
from memorax.experiments.run.config import TrainConfig, from_json, to_json
from memorax.experiments.run.program import chunk_updates


@pytest.mark.parametrize(
    "config",
    [
        TrainConfig(),
        TrainConfig(
            torso="mlp",
            environment="gymnax::Pendulum-v1",
            environment_parameters=("max_steps_in_episode=7",),
            algorithm=PPOConfig(gamma=0.5, target_kl=0.1),
        ),
        TrainConfig(
            algorithm=R2D2Config(n_step=3), previous_inputs=True, value_head="c51_q_network"
        ),
    ],
)
def test_a_configuration_is_read_back_as_it_was_written(config, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(to_json(config))
    assert from_json(path) == config


def test_a_configuration_of_another_version_is_refused_in_one_line_with_every_entry(tmp_path):
    path = tmp_path / "config.json"
    entries = json.loads(to_json(TrainConfig()))
    entries["num_sead"] = entries.pop("num_seeds")
    del entries["algorithm"]["gamma"]
    path.write_text(json.dumps(entries))
    with pytest.raises(ValueError, match=r"config.json .* it does not fit this version") as caught:
        from_json(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).partition("of memorax: ")[2].split("; ") == [
        f"algorithm/gamma: missing, its default is {TrainConfig().algorithm.gamma}",
        "num_sead: unexpected, the file has 3",
        "num_seeds: missing, its default is 3",
    ]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"algorithm": {}}'])
def test_a_file_that_holds_no_configuration_is_refused(text, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"config.json holds no configuration"):
        from_json(path)


def test_parameters_are_read_as_what_they_are():
    parameters = ("length=3", "gravity=9.5", "sparse=true", "map=4x4")
    config = TrainConfig(environment_parameters=parameters)
    assert config.parsed_environment_parameters == {
        "length": 3,
        "gravity": 9.5,
        "sparse": True,
        "map": "4x4",
    }


def test_the_demo_has_its_own_parameters_and_other_tasks_have_none():
    assert TrainConfig().parsed_environment_parameters == {"memory_length": 24}
    other = TrainConfig(environment="gymnax::CartPole-v1")
    assert other.parsed_environment_parameters == {}


@pytest.mark.parametrize("longest", [0, 2, 1_000])
@pytest.mark.parametrize("updates", [1, 7, 50, 97, 150, 200])
def test_pieces_make_up_the_run_exactly(updates, longest):
    piece = chunk_updates(updates, longest)
    assert updates % piece == 0
    assert piece <= max(1, min(updates // 50, longest))
