import jax
import numpy as np
import pytest

from memorax.algorithms.acting import Timestep
from memorax.algorithms.returns import n_step_returns
from memorax.algorithms.transitions import (
    Sequences,
    Transition,
    empty_window,
    move_window,
    window_to_sequences,
)

BATCH, TIME, GAMMA = 4, 11, 0.9


def random_sequences(seed):
    draw = np.random.default_rng(seed)
    shape = BATCH, TIME
    truncated = draw.random(shape) < 0.15
    return Sequences(
        timestep=None,
        action=None,
        reward=draw.standard_normal(shape, np.float32),
        # What is cut off does not terminate too.
        terminated=(draw.random(shape) < 0.15) & ~truncated,
        truncated=truncated,
        carry=None,
    )


def loop_target(sequences, values, row, step, n_step):
    """Follow one step's rewards until the count, the episode or the sequence ends."""
    total, discount, now = 0.0, 1.0, step
    for _ in range(n_step):
        if now == TIME or sequences.truncated[row, now]:
            break
        total += discount * float(sequences.reward[row, now])
        if sequences.terminated[row, now]:
            return total
        discount *= GAMMA
        now += 1
    return total + discount * values[row, now]


@pytest.mark.parametrize("n_step", [1, 3, TIME])
def test_n_step_targets_end_with_the_episode_and_bootstrap_from_where_a_time_limit_cut_it(n_step):
    sequences = random_sequences(seed=n_step)
    values = np.random.default_rng(9).standard_normal((BATCH, TIME + 1))
    add_up = jax.jit(n_step_returns, static_argnums=(1, 2))
    returns, discount, index = map(np.asarray, add_up(sequences, GAMMA, n_step))
    target = returns + discount * values[np.arange(BATCH)[:, None], index]
    expected = [
        [loop_target(sequences, values, row, step, n_step) for step in range(TIME)]
        for row in range(BATCH)
    ]
    np.testing.assert_allclose(target, expected, rtol=1e-4, atol=1e-5)


def timestep(count, num_envs=2):
    return Timestep(
        observation=np.full((num_envs, 3), count, np.uint8),
        done=np.zeros(num_envs, bool),
        action=np.zeros(num_envs, np.int32),
        reward=np.zeros(num_envs, np.float32),
    )


def test_windows_overlap_and_keep_the_carry_of_their_first_step():
    num_steps, parts, move = 2, 3, jax.jit(move_window)
    window = empty_window(
        timestep(0), np.full((2, 1), -1.0, np.float32), parts * num_steps, num_steps
    )
    assert window.transitions.truncated.all(), "nothing is to be learned from an empty window"
    for update in range(4):
        counts = [num_steps * update + step for step in range(num_steps)]
        transitions = [
            Transition(
                timestep(count),
                np.full(2, count, np.int32),
                np.full(2, count, np.float32),
                np.zeros(2, bool),
                np.zeros(2, bool),
            )
            for count in counts
        ]
        transitions = jax.tree.map(lambda *leaves: np.stack(leaves), *transitions)
        # The carry counts the steps before it.
        window = move(window, transitions, np.full((2, 1), counts[0], np.float32))
    sequences = window_to_sequences(window, timestep(8))
    for row in range(2):
        np.testing.assert_array_equal(sequences.timestep.observation[row, :, 0], range(2, 9))
        np.testing.assert_array_equal(sequences.reward[row], range(2, 8))
        assert sequences.carry[row] == 2.0
    assert not sequences.truncated.any()
    assert sequences.timestep.observation.dtype == np.uint8
