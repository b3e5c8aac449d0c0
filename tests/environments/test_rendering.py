import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax import environments
from memorax.environments import Box, Discrete, FlattenObservation, RecordEpisodeStatistics
from memorax.environments.memory.associative_recall import AssociativeRecallState
from memorax.environments.memory.battleship import BattleshipState
from memorax.environments.memory.concentration import ConcentrationState
from memorax.environments.memory.key_to_door import KeyToDoorState
from memorax.environments.memory.labyrinth import LabyrinthState
from memorax.environments.memory.mine_sweeper import MineSweeperState
from memorax.environments.memory.selective_copying import SelectiveCopyingState
from memorax.environments.memory.t_maze import TMazeState
from memorax.environments.memory.word_problem import WordProblemState
from memorax.experiments.play.text import observation_text

HERE = jnp.array([1, 0])
NOWHERE = jnp.array([2, 2])


def flags(size, *indices):
    return jnp.zeros(size, bool).at[jnp.array(indices)].set(True)


def squares(size, *places):
    return flags(size**2, *(row * size + column for row, column in places)).reshape(size, size)


def associative_recall(is_query):
    left = jnp.ones(4, jnp.int32)
    return AssociativeRecallState(jnp.int32(2), is_query, jnp.array([3, 4, 1, 0]), left, left)


def selective_copying(symbol, mode, marked, recalled):
    return SelectiveCopyingState(symbol, mode, jnp.array(marked), jnp.zeros(2), recalled)


def key_to_door(time, held=0):
    apples = squares(3, (0, 1), (2, 2))
    return KeyToDoorState(HERE, NOWHERE, jnp.int32(1), jnp.int32(held), apples, jnp.int32(time))


STATES = {
    "write": (
        *("AssociativeRecallEasy", {}, associative_recall(False)),
        "key   0 1 2 3\nvalue 3 · 1 0\nwrites 1 to key 2",
    ),
    "query": (
        *("AssociativeRecallEasy", {}, associative_recall(True)),
        "key   0 1 2 3\nvalue 3 · 1 0\nasks for key 2",
    ),
    "noise": (
        *("SelectiveCopyingEasy", {}, selective_copying(3, 0, [2, 0, -1, -1], 0)),
        "2 0 · ·\nnoise: 3",
    ),
    "recall": (
        *("SelectiveCopyingEasy", {}, selective_copying(0, 2, [2, 0, 1, 1], 1)),
        "2 (0) 1 1\nrecalls",
    ),
    "word": (
        *("WordProblemMedium", {}, WordProblemState(jnp.int32(1), jnp.int32(4), jnp.int32(2))),
        "element 1: 0 2 1\nproduct 4: 2 0 1",
    ),
    "t_maze": (
        *("TMazePassive", {"corridor_length": 3}),
        TMazeState(jnp.int32(-1), jnp.int32(2), jnp.int32(0)),
        "   ·\nO·A·\n   G",
    ),
    "key": (
        *("KeyToDoor", {"room_size": 3}, key_to_door(0)),
        "room of the key; the key (1) is not held\n···\nA··\n··K",
    ),
    "apples": (
        *("KeyToDoor", {"room_size": 3}, key_to_door(10, held=1)),
        "room of the apples; the key (1) is held\n·o·\nA··\n··o",
    ),
    "doors": (
        *("KeyToDoor", {"room_size": 3}, key_to_door(25, held=1)),
        "room of the doors; the key (1) is held\nd·D\nA··\n···",
    ),
    "labyrinth": (
        *("LabyrinthEscapeEasy", {"maze_size": 6}),
        LabyrinthState(
            jnp.ones((7, 7), jnp.int32).at[1, 0:4].set(jnp.array([2, 0, 0, 0])).at[0, 3].set(3),
            squares(7, (1, 0), (1, 1), (1, 2)),
            jnp.array([1, 2]),
            jnp.int32(2),
            None,  # what comes next is not shown
        ),
        "███G███\nS·A ███\n" + "\n".join(["█" * 7] * 5),
    ),
    "mine_sweeper": (
        *("MineSweeperEasy", {"size": 3}),
        MineSweeperState(squares(3, (0, 0), (0, 1)), squares(3, (1, 0), (2, 2)), jnp.int32(2)),
        "* * ·\n2 · ·\n· · 0",
    ),
    "battleship": (
        *("BattleshipEasy", {}),
        BattleshipState(flags(64, 0, 1), flags(64, 1, 2), jnp.int32(1), jnp.int32(2)),
        "S X o · · · · ·\n" + "\n".join(["· · · · · · · ·"] * 7),
    ),
    "concentration": (
        *("ConcentrationHard", {}),
        ConcentrationState(jnp.arange(52) % 13, flags(52, 0, 13, 25), jnp.int32(12), jnp.int32(5)),
        " 0 " + " · " * 11 + "(c)\n" + " 0 " + " · " * 11 + " c " + ("\n" + " · " * 13) * 2,
    ),
}


@pytest.mark.parametrize("name", STATES)
def test_states_are_shown_as_text(name):
    task, parameters, state, expected = STATES[name]
    env, params = environments.make(f"memory::{task}", **parameters)
    assert env.render_text(state, params) == expected
    assert env.render_frame(state, params) is None


def test_what_is_around_a_task_shows_what_the_task_shows():
    env, params = environments.make("memory::TMazeActive", corridor_length=2)
    wrapped = RecordEpisodeStatistics(FlattenObservation(env))
    _, state = wrapped.reset(jax.random.key(0), params)
    assert wrapped.render_text(state, params) == env.render_text(state.env_state, params)
    assert type(wrapped.with_rendering()) is RecordEpisodeStatistics


def test_observations_are_shown_as_text():
    assert observation_text(np.int32(2), Discrete(4)) == "2 of 4  ··█·"
    assert observation_text(np.int32(70), Discrete(100)) == "70 of 100"
    assert observation_text(np.array([-1.0, 0.0, 1.0]), Box(-1.0, 1.0, (3,))) == (
        f" 0         -1 {'·' * 20}\n 1          0 {'█' * 10}{'·' * 10}\n 2          1 {'█' * 20}"
    )
    # Without bounds the largest number is a whole bar.
    assert observation_text(np.array([4.0, -4.0]), Box(-np.inf, np.inf, (2,))) == (
        f" 0          4 {'█' * 20}\n 1         -4 {'·' * 20}"
    )
    picture = np.zeros((2, 3, 3), np.uint8)
    picture[0, 0] = picture[1, 2] = 255
    assert observation_text(picture, Box(0, 255, picture.shape, jnp.uint8)) == (
        "█··\n··█\n2×3×3 numbers, averaged"
    )
    vector = np.arange(50) >= 49
    assert observation_text(vector, Box(0.0, 1.0, (50,))) == f"{'·' * 48}\n·█{' ' * 46}\n50 numbers"
    large = np.ones((100, 60))
    *rows, told = observation_text(large, Box(0.0, 1.0, large.shape)).splitlines()
    assert (rows, told) == (["█" * 48] * 24, "100×60 numbers, averaged")


DRAWN = {
    "gymnax::CartPole-v1": (500, 600, 3),
    "gymnax::Breakout-MinAtar": (500, 600, 3),
    "minigrid::MiniGrid-MemoryS7-v0": (224, 224, 3),
    "navix::Navix-Empty-5x5-v0": (40, 40, 3),
    "xminigrid::MiniGrid-MemoryS8": (224, 256, 3),
}


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        pytest.param(*drawn, marks=pytest.mark.extra(drawn[0].partition("::")[0]))
        for drawn in DRAWN.items()
    ],
)
def test_suites_that_draw_draw(name, shape):
    env, params = environments.make(name)
    env = FlattenObservation(env).with_rendering()
    _, state = jax.jit(env.reset)(jax.random.key(0), params)
    frame = env.render_frame(state, params)
    environments.release(state)
    assert frame.shape == shape
    assert frame.dtype == np.uint8
    assert np.ptp(frame) > 0


@pytest.mark.extra("minigrid")
def test_processes_draw_only_if_they_are_told_to():
    env, params = environments.make("minigrid::MiniGrid-MemoryS7-v0")
    _, state = env.reset(jax.random.key(0), params)
    assert env.render_frame(state, params) is None
    environments.release(state)
