import dataclasses

import pytest

from memorax.algorithms import DQNConfig, PPOConfig, PQNConfig, R2D2Config, SACConfig
from memorax.algorithms.sharding import ENVIRONMENTS
from memorax.experiments.run.agents import make_agent
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.devices import Devices, abstract_state, make_mesh
from memorax.experiments.run.schedules import fit_schedules


@pytest.mark.parametrize(
    "algorithm", [PPOConfig(), DQNConfig(), R2D2Config(), PQNConfig(), SACConfig()]
)
def test_default_schedules_end_within_a_long_run_as_they_are(algorithm):
    config = TrainConfig(algorithm=algorithm, total_steps=300_000)
    assert fit_schedules(config) == (algorithm, [])


def test_default_schedules_are_shortened_to_a_share_of_a_short_run():
    config = TrainConfig(algorithm=DQNConfig(), total_steps=4_000)
    algorithm, lines = fit_schedules(config)
    assert algorithm == dataclasses.replace(
        DQNConfig(), learning_starts=400, epsilon_decay_steps=1_000
    )
    assert lines == [
        "learning_starts: 400 steps, since the run has only 4,000",
        "epsilon_decay_steps: 1,000 steps, since the run has only 4,000",
    ]
    assert make_agent(config, "gru").config == algorithm


def test_a_target_period_that_ends_with_the_run_is_accepted_on_several_devices():
    config = TrainConfig(
        algorithm=DQNConfig(learning_starts=512, target_update_period=16), total_steps=1_024
    )
    agent = make_agent(config, "mlp")
    mesh = make_mesh(Devices(devices=2), config, {"mlp": agent})
    assert mesh.shape[ENVIRONMENTS] == 2
    like = abstract_state(mesh, config, "mlp", agent)
    assert like.timestep.done.shape == (config.num_seeds, 16)


@pytest.mark.parametrize(
    ("algorithm", "message"),
    [
        (DQNConfig(learning_starts=30_000), r"learning_starts must be less than .*got .*=30000"),
        (PQNConfig(epsilon_decay_steps=40_000), r"epsilon_decay_steps must be less.*=40000"),
        (SACConfig(learning_starts=20_000), r"learning_starts must be less .*total_steps=20000"),
        (R2D2Config(target_update_period=2_500), r"target_update_period must be at most.*=2500"),
    ],
)
def test_a_schedule_longer_than_the_run_is_refused(algorithm, message):
    with pytest.raises(ValueError, match=message):
        make_agent(TrainConfig(algorithm=algorithm, total_steps=20_000), "gru")
