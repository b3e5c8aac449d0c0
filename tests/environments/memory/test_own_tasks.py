import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax import environments
from memorax.environments import memory
from tests.environments.memory.playing import STEPS, play, play_with_states, returns


# Levels differ in sizes alone.
@pytest.mark.parametrize(
    "name", [name for name in memory.names() if not name.endswith(("Medium", "Hard"))]
)
def test_a_task_keeps_what_an_environment_promises(name):
    env, _ = environments.make(f"memory::{name}")
    space = env.observation_space(None)
    *told, terminated, truncated = play(name, STEPS)
    first, shown, final, *_ = told
    ended = terminated | truncated
    np.testing.assert_array_equal(final[~ended], shown[~ended])
    low, high = (0, space.n - 1) if hasattr(space, "n") else (space.low, space.high)
    for seen in (shown, final):
        assert (seen >= low).all()
        assert (seen <= high).all()
        assert seen.dtype == first.dtype
        assert seen.shape[1:] == first.shape == getattr(space, "shape", ())
    again = play(name, STEPS)
    for one, other in zip((*told, terminated, truncated), again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(play(name, STEPS, seed=1)[3], again[3])


def test_an_action_outside_of_its_space_is_refused_or_earns_no_number(as_a_user):
    env, _ = environments.make("memory::MemoryChain")
    _, state = env.reset(jax.random.key(0), None)
    with pytest.raises(ValueError, match=r"MemoryChain: the action must lie in Discrete\(n=2\)"):
        env.step(jax.random.key(0), state, jnp.int32(2), None)
    _, _, reward, *_ = jax.jit(env.step)(jax.random.key(0), state, jnp.int32(2), None)
    assert np.isnan(reward)


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (np.int64(2**32 + 1), "got 4294967297"),
        (np.uint64(2**32), "got 4294967296"),
        (2**31, "got 2147483648"),
        (2**70, "got 1180591620717411303424"),
        (True, "got True"),
        ("up", "got 'up'"),
        ([0, [1]], r"got \[0, \[1\]\]"),
    ],
)
def test_no_action_is_taken_for_another(action, words, as_a_user):
    env, _ = environments.make("memory::MemoryChain")
    _, state = env.reset(jax.random.key(0), None)
    with pytest.raises(ValueError, match=rf"MemoryChain: .* lie in Discrete\(n=2\), {words}"):
        env.step(jax.random.key(0), state, action, None)


@functools.cache
def tell(index, at):
    """Remember what is told at ``index`` when it is; answer by ``at(observation, memory)``."""

    def choose(key, observation, memory):
        memory = jnp.where(observation[index] != 0, observation[index], memory)
        return memory, jnp.asarray(at(observation, memory), jnp.int32)

    return choose


def mean_return(name, choose, num_steps, **params):
    *_, reward, terminated, _ = play(name, num_steps, choose, **params)
    return returns(reward, terminated).mean()


def answer(observation, memory):
    return memory > 0


def guess(observation, memory):
    return observation[1] > 0


@pytest.mark.parametrize("memory_length", [1, 7])
def test_a_chain_is_won_by_the_bit_alone(memory_length):
    steps = 300 * (memory_length + 1)
    params = {"memory_length": memory_length}
    assert mean_return("MemoryChain", tell(1, answer), steps, **params) == 1
    assert abs(mean_return("MemoryChain", tell(1, guess), steps, **params)) < 0.2
    *_, terminated, _ = play("MemoryChain", steps, **params)
    np.testing.assert_array_equal(np.flatnonzero(terminated) % (memory_length + 1), memory_length)


def turn(observation, memory):
    """Walk right, by way of the oracle, and turn as it told."""
    up_or_down = jnp.where(memory > 0, 1, 3)
    walk = jnp.where(memory == 0, 2, 0)
    return jnp.where(observation[3] == 1, up_or_down, walk)


def always_up(observation, memory):
    return jnp.where(observation[3] == 1, 1, jnp.where(memory == 0, 2, 0))


@pytest.mark.parametrize(("name", "detour"), [("TMazePassive", 0), ("TMazeActive", 1)])
@pytest.mark.parametrize("corridor_length", [2, 10])
def test_a_maze_is_won_by_what_the_oracle_told(name, detour, corridor_length):
    length = corridor_length + 1 + detour
    params = {"corridor_length": corridor_length}
    assert mean_return(name, tell(0, turn), 300 * length, **params) == 1
    assert abs(mean_return(name, tell(0, always_up), 300 * length, **params) - 0.5) < 0.1
    *_, terminated, _ = play(name, 300 * length, tell(0, turn), **params)
    np.testing.assert_array_equal(np.flatnonzero(terminated) % length, length - 1)


def test_who_dawdles_in_a_maze_loses_what_the_penalty_says():
    def stand(key, observation, memory):
        return memory, jnp.int32(1)

    assert mean_return("TMazePassive", stand, 1_100) == pytest.approx(-1.1, abs=1e-4)
    assert mean_return("TMazePassive", stand, 1_100, late_penalty=False) == 0


def towards(observation, row, column):
    """Return the action that walks towards a square whose place is given from -1 to 1."""
    down, right = row - observation[0], column - observation[1]
    sideways = jnp.where(right > 0, 0, 2)
    return jnp.where(abs(right) > 1e-3, sideways, jnp.where(down > 0, 3, 1))


def test_a_door_is_opened_by_who_took_the_key_and_remembers_its_colour():
    def walk(remembered):
        def choose(key, observation, memory):
            memory = jnp.where(observation[7] != 0, observation[7], memory)
            to_key = towards(observation, observation[5], observation[6])
            to_door = towards(observation, -1.0, remembered(memory))
            idle = jnp.where(observation[3] == 1, 3, 1)
            in_first_room = (observation[2] == 1) & (observation[7] != 0)
            action = jnp.where(in_first_room, to_key, idle)
            return memory, jnp.where(observation[4] == 1, to_door, action).astype(jnp.int32)

        return choose

    sizes = {"num_apples": 0, "steps_with_apples": 4}
    right = mean_return("KeyToDoor", walk(lambda memory: memory), 3_000, **sizes)
    wrong = mean_return("KeyToDoor", walk(lambda memory: -memory), 3_000, **sizes)
    guess = mean_return("KeyToDoor", walk(lambda memory: 1.0), 3_000, **sizes)
    assert (right, wrong) == (1, 0)
    assert abs(guess - 0.5) < 0.15


def test_without_the_key_no_door_opens_and_apples_are_worth_a_tenth():
    _, states, _, _, _, reward, terminated, _ = play_with_states("KeyToDoor", 5_000)
    room = (states.time >= 10).astype(int) + (states.time >= 25)
    assert set(np.round(reward[room == 0], 3)) == {0}
    assert set(np.round(reward[room == 1], 3)) == {0, np.float32(0.1)}
    opened = (room == 2) & (reward > 0)
    assert opened.any()
    np.testing.assert_array_equal(states.held[opened], states.color[opened])
    gone = states.apples[:-1].sum((1, 2)) - states.apples[1:].sum((1, 2))
    np.testing.assert_array_equal(
        gone[~terminated[:-1]],
        (room == 1)[:-1][~terminated[:-1]] * np.round(10 * reward[:-1][~terminated[:-1]]),
    )
    ends = np.flatnonzero(terminated)
    assert np.diff(ends, prepend=-1).max() == 35


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("KeyToDoor", {"room_size": 257}, "KeyToDoor.room_size must be .* 2 to 256, got 257"),
        ("KeyToDoor", {"steps_with_key": 2**30}, "steps_with_key must be .* 1 to 715827882, got"),
        ("MemoryChain", {"memory_length": 2**31}, "memory_length must be .* 1 to 2147483647, got"),
        ("TMazeActive", {"corridor_length": 2**31 - 2}, "must be .* 1 to 2147483645, got"),
    ],
)
def test_sizes_that_cannot_be_counted_are_refused(name, params, words):
    with pytest.raises(ValueError, match=words):
        environments.make(f"memory::{name}", **params)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("AutoencodeEasy", {"num_decks": 1_260}),
        ("BattleshipEasy", {"board_size": 256}),
        ("ConcentrationEasy", {"num_decks": 1_260}),
        ("CountRecallEasy", {"num_decks": 1_260}),
        ("HigherLowerEasy", {"num_decks": 1_260}),
        (
            "KeyToDoor",
            {
                "room_size": 256,
                "steps_with_key": (2**31 - 1) // 3,
                "steps_with_apples": (2**31 - 1) // 3,
                "steps_with_doors": (2**31 - 1) // 3,
            },
        ),
        ("LabyrinthEscapeEasy", {"episode_length": 2**31 - 1}),
        ("AssociativeRecallEasy", {"num_keys": 65_536, "num_writes": 1, "num_queries": 1}),
        ("MemoryChain", {"memory_length": 2**31 - 1}),
        ("MineSweeperEasy", {"size": 256, "num_mines": 256**2 - 3}),
        ("MultiarmedBanditEasy", {"num_bandits": 65_536, "episode_length": 2**31 - 1}),
        ("RepeatFirstEasy", {"num_decks": 1_260}),
        ("RepeatPreviousEasy", {"num_decks": 1_260, "k": 1_260 * 52 - 1}),
        ("StatelessCartPoleEasy", {"max_episode_length": 2**31 - 1}),
        ("StatelessPendulumEasy", {"max_episode_length": 2**31 - 1}),
        ("SelectiveCopyingEasy", {"num_marked": 65_536, "num_noise": 65_536}),
        ("TMazeActive", {"corridor_length": 2**31 - 3}),
        ("WordProblemHard", {"episode_length": 2**31 - 1}),
    ],
)
def test_the_largest_sizes_are_played(name, params):
    env, _ = environments.make(f"memory::{name}", **params)
    first, state = env.reset(jax.random.key(0), None)
    space = env.action_space(None)
    action = jnp.zeros(getattr(space, "shape", ()), getattr(space, "dtype", jnp.int32))
    observation, _, reward, terminated, truncated, _ = env.step(
        jax.random.key(1), state, action, None
    )
    assert observation.shape == first.shape
    assert np.isfinite(reward)
    assert not truncated
    # A mine at the first step aside: of so many squares three have none.
    assert not terminated or name == "MineSweeperEasy"
