"""A run that is killed at any moment and goes on ends as one that was never killed."""

import random

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

pytestmark = pytest.mark.exhaustive

RUN = (
    *("--environment", "memory::MemoryChain", "--environment-parameters", "memory_length=3"),
    *("--num-seeds", "2", "--features", "4", "--no-memoryless-twin", "--evaluation-episodes", "2"),
    *("--num-envs", "4", "--num-steps", "4", "--total-steps", "6400", "--checkpoint-every", "128"),
    *("--loggers", "csv", "jsonl", "tensorboard"),
)
ALGORITHMS = {
    "ppo": ("--num-minibatches", "2", "--update-epochs", "1", "--previous-inputs"),
    "r2d2": (
        *("--algorithm", "r2d2", "--sequence-length", "8", "--burn-in-length", "2"),
        *("--n-step", "2", "--batch-size", "4", "--buffer-size", "400", "--learning-starts", "64"),
    ),
}
KILLS = 11


def checkpoints(folder):
    """Return all arrays of all checkpoints, by step."""
    with ocp.StandardCheckpointer() as reader:
        return {
            int(path.name): reader.restore(path / "default")
            for path in (folder / "checkpoints" / "gru").iterdir()
            if path.name.isdigit()
        }


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_killed_run_goes_on_bit_by_bit(algorithm, lives, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command = ("train", *RUN, *ALGORITHMS[algorithm], "--run-folder")
    code, told = lives.live(*command, whole)
    assert code == 0, told

    # Anywhere between the start and the fourth save or so of a life: half of them at a change to a
    # file, half of them while something is computed or written.
    moments = random.Random(algorithm)
    command, killed_while_saving, reached = (*command, killed), 0, set()
    for number in range(KILLS):
        kill = [moments.randint(5, 120), number % 2 * moments.uniform(0.001, 0.05)]
        code, told = lives.live(*command, kill=kill)
        assert code == -9, told
        steps = [path.name for path in (killed / "checkpoints" / "gru").glob("*")]
        killed_while_saving += any("tmp" in step for step in steps)
        reached |= {max((int(step) for step in steps if step.isdigit()), default=0)}
        command = ("train", "--run-folder", killed, "--resume")
    assert killed_while_saving >= 3
    assert len(reached) >= KILLS // 2, "lives have to get on"
    code, told = lives.live(*command)
    assert code == 0, told

    for name in ("metrics.csv", "metrics.jsonl", "evaluation.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    expected = checkpoints(whole)
    assert max(expected) == 6400
    assert len(expected) in (2, 3), "the last two, and the best"
    jax.tree.map(np.testing.assert_array_equal, checkpoints(killed), expected)
