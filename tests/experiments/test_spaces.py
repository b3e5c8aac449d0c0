"""Every algorithm trains on spaces of every kind, or refuses them before anything is made."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memorax.experiments.cli.command_line import main
from memorax.experiments.run.folder import RunFolder, number_in, read_metrics
from tests.environments.spaced import ACTIONS, OBSERVATIONS

pytestmark = [pytest.mark.exhaustive, pytest.mark.extra("gymnasium")]

ROLLOUTS = ("--num-minibatches", "1", "--update-epochs", "1")
REPLAY = (
    *("--sequence-length", "8", "--buffer-size", "128", "--batch-size", "2"),
    *("--learning-starts", "32", "--gradient-steps", "1"),
)
ALGORITHMS = {
    "ppo": ROLLOUTS,
    "pqn": ROLLOUTS,
    "dqn": REPLAY,
    "r2d2": (*REPLAY, "--burn-in-length", "0", "--n-step", "2"),
    "sac": REPLAY,
    "td3": REPLAY,
}
DISCRETE = {"choice", "choice_from_five", "only_choice", "choices", "bits"}
BOUNDED = {"bounded", "unequally_bounded", "scalar", "matrix", "double"}
UNBOUNDED = {"half_bounded", "unbounded"}
NOT_OBSERVED = {"empty", "text", "sequence"}


def trains(algorithm, observation, action):
    """Return whether an algorithm is meant to train on spaces, and not to refuse them."""
    actions = {"ppo": DISCRETE | BOUNDED | UNBOUNDED, "sac": BOUNDED, "td3": BOUNDED}
    return observation not in NOT_OBSERVED and action in actions.get(algorithm, DISCRETE)


@settings(max_examples=1, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(observation=st.sampled_from(sorted(OBSERVATIONS)), action=st.sampled_from(sorted(ACTIONS)))
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_spaces_are_trained_on_or_refused_in_one_line(
    algorithm, observation, action, tmp_path_factory, capsys
):
    folder = tmp_path_factory.mktemp("spaces") / "run"
    code = main(
        [
            *("train", "--algorithm", algorithm, "--torso", "mlp", "--no-memoryless-twin"),
            *("--environment", "gymnasium::tests.environments.spaced:Spaced-v0"),
            *("--environment-parameters", f"observation={observation}", f"action={action}"),
            *("--features", "4", "--num-envs", "2", "--num-steps", "8", "--num-seeds", "1"),
            *("--total-steps", "256", "--evaluation-episodes", "2", "--loggers", "csv"),
            *(*ALGORITHMS[algorithm], "--run-folder", str(folder)),
        ]
    )
    said = capsys.readouterr().err.strip().splitlines()
    if not trains(algorithm, observation, action):
        assert code == 2, said
        assert len(said) == 1
        assert not folder.exists()
        return
    assert code == 0, said
    rows = read_metrics(RunFolder(folder))
    assert int(rows[-1]["step"]) == 256
    losses = [number_in(row[name]) for row in rows[-4:] for name in row if "loss" in name]
    assert losses
    assert np.isfinite(losses).all()
    (evaluation,) = json.loads((folder / "evaluation.json").read_text())
    assert evaluation["mean_return"] == 3
