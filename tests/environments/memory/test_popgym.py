"""Our tasks beside those of the popgym package: step by step, and in what chance makes of them."""

import importlib
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from scipy import ndimage
from scipy.stats import chi2_contingency, chisquare, ks_2samp

from memorax import environments
from memorax.environments.memory import maze
from memorax.environments.memory.battleship import place_ship
from memorax.environments.memory.mine_sweeper import draw_places
from tests.environments.memory.playing import STEPS, play, play_with_states, returns

LEVELS = ("Easy", "Medium", "Hard")


class Chance:
    """Stands for a random generator and says what it has been told to."""

    def __init__(self, **draws):
        for name, draw in draws.items():
            setattr(self, name, draw)


def orders(*kinds_and_decks):
    """Shuffle one deck after the other into given orders of kinds, dealt from the end."""
    waiting = []
    for kinds, deck in kinds_and_decks:
        by_kind = {kind: list(np.flatnonzero(deck == kind)) for kind in np.unique(deck)}
        cards = [by_kind[kind].pop() for kind in kinds]
        unseen = [card for cards_of_kind in by_kind.values() for card in cards_of_kind]
        waiting.append(np.array(unseen + cards[::-1]))

    def shuffle(cards):
        cards[:] = waiting.pop(0)

    return Chance(shuffle=shuffle)


def deal_autoencode(theirs, seen, states):
    shown = 1 + np.argmin(np.append(seen[1:, 0], 0))
    suits = seen[: shown + 1, 1] if shown < len(seen) else seen[:, 1]
    theirs._np_random = orders((suits[: theirs.deck.num_cards], theirs.deck.suits_idx))
    theirs.reset()


def deal_higher_lower(theirs, seen, states):
    theirs._np_random = orders((seen, theirs.deck.ranks_idx))
    theirs.reset()


def deal_count_recall(theirs, seen, states):
    deck = theirs.deck_idx_type
    theirs._np_random = orders((seen[:, 0], deck), (seen[:, 1], deck))
    theirs.reset()


def deal_concentration(theirs, seen, states):
    cards = states.cards[0]
    theirs._np_random = orders((cards[::-1], theirs.deck_idx_type))
    theirs.reset()


def begin_bandit(theirs, seen, states):
    paid = iter(seen[1:])

    def random(size=None, dtype=None):
        return states.chances[0] if size else 1.0 - next(paid)

    theirs._np_random = Chance(random=random)
    theirs.reset()


def lay_mines(theirs, seen, states):
    theirs._np_random = Chance(
        choice=lambda squares, size, replace: np.flatnonzero(states.mines[0])
    )
    theirs.reset()


def place_ships(theirs, seen, states):
    theirs.reset(seed=0)
    theirs.board = states.ships[0].reshape(theirs.board.shape).astype(np.int8)


def lay_out_maze(theirs, seen, states):
    theirs.reset(seed=0)
    theirs.maze.grid = states.grid[0].astype(np.int8)
    theirs.position = tuple(states.position[0].tolist())
    theirs.explored = states.explored[0].astype(np.int8)
    theirs.pos_reward_scale = 1 / (states.grid[0] == 0).sum()


def begin_body(theirs, seen, states):
    theirs.reset(seed=0)
    # Their noise is zero, and ours is told apart from the dynamics below.
    theirs._np_random = Chance(normal=lambda mean, sigma: np.zeros(np.shape(sigma)))


def set_cart_pole(theirs, state):
    theirs.state = state.body.astype(np.float64)


def set_pendulum(theirs, state):
    theirs.state = np.array([state.angle, state.spin], np.float64)


# The package's module and class, how its episode begins like ours, and how it is brought to our
# state before each step, where rounding would make the two drift apart.
TASKS = {
    "Autoencode": ("autoencode", "Autoencode", deal_autoencode, None),
    "HigherLower": ("higher_lower", "HigherLower", deal_higher_lower, None),
    "CountRecall": ("count_recall", "CountRecall", deal_count_recall, None),
    "Concentration": ("concentration", "Concentration", deal_concentration, None),
    "MultiarmedBandit": ("multiarmed_bandit", "MultiarmedBandit", begin_bandit, None),
    "MineSweeper": ("minesweeper", "MineSweeper", lay_mines, None),
    "Battleship": ("battleship", "Battleship", place_ships, None),
    "LabyrinthEscape": ("labyrinth_escape", "LabyrinthEscape", lay_out_maze, None),
    "LabyrinthExplore": ("labyrinth_explore", "LabyrinthExplore", lay_out_maze, None),
    "StatelessCartPole": (
        "position_only_cartpole",
        "PositionOnlyCartPole",
        begin_body,
        set_cart_pole,
    ),
    "VelocityOnlyCartPole": (
        "velocity_only_cartpole",
        "VelocityOnlyCartPole",
        begin_body,
        set_cart_pole,
    ),
    "StatelessPendulum": (
        "position_only_pendulum",
        "PositionOnlyPendulum",
        begin_body,
        set_pendulum,
    ),
}
NOISY = {
    "NoisyStatelessCartPole": ("noisy_position_only_cartpole", "NoisyPositionOnlyCartPole"),
    "NoisyStatelessPendulum": ("noisy_position_only_pendulum", "NoisyPositionOnlyPendulum"),
}


def package_task(task, level):
    module, name = (TASKS | NOISY)[task][:2]
    return getattr(importlib.import_module(f"popgym.envs.{module}"), name + level)()


def package_action(theirs, action):
    """Return a row and a column where we number squares."""
    if isinstance(theirs.action_space, spaces.MultiDiscrete):
        return np.array(np.unravel_index(action, theirs.action_space.nvec))
    return action


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("task", TASKS)
def test_observations_rewards_and_ends_are_popgyms(task, level):
    _, _, begin, set_state = TASKS[task]
    theirs = package_task(task, level)
    first, states, shown, final, action, reward, *ends = play_with_states(task + level, STEPS)
    ended, told = ends[0] | ends[1], []
    starts = [0, *(np.flatnonzero(ended[:-1]) + 1)]
    for start, stop in zip(starts, [*starts[1:], STEPS], strict=True):
        seen = first if start == 0 else shown[start - 1]
        seen = np.concatenate([[seen], final[start:stop]])
        begin(theirs, seen, jax.tree.map(lambda leaf, start=start: leaf[start:], states))
        for step in range(start, stop):
            if set_state:
                set_state(theirs, jax.tree.map(lambda leaf, step=step: leaf[step], states))
            seen, their_reward, terminated, truncated, _ = theirs.step(
                package_action(theirs, action[step])
            )
            told.append((np.array(seen), their_reward, terminated, truncated and not terminated))
    observation, their_reward, *their_ends = map(np.array, zip(*told, strict=True))
    np.testing.assert_allclose(final, observation, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(reward, their_reward, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(ends, their_ends)


def turn_pairs(state):
    kinds = np.argsort(state.cards, kind="stable")
    return kinds.tolist()


def shoot_ships(state):
    return np.flatnonzero(state.ships).tolist()


def look_where_no_mine_is(state):
    return np.flatnonzero(~state.mines).tolist()


def ways_from(grid, place):
    """Return the squares around one that can be walked on, by action."""
    steps = ((0, -1), (0, 1), (-1, 0), (1, 0))
    around = {
        action: (place[0] + row, place[1] + column) for action, (row, column) in enumerate(steps)
    }
    size = len(grid)
    return {
        action: square
        for action, square in around.items()
        if all(0 <= index < size for index in square) and grid[square] != maze.OBSTACLE
    }


def walk_everywhere(state):
    """Walk through a maze that has no loops, back from every dead end."""
    back, actions, seen = {0: 1, 1: 0, 2: 3, 3: 2}, [], set()

    def visit(square):
        seen.add(square)
        for action, ahead in ways_from(state.grid, square).items():
            if ahead not in seen:
                actions.append(action)
                visit(ahead)
                actions.append(back[action])

    visit(tuple(state.position.tolist()))
    return actions


# Who knows what is hidden wins, which random play nearly never does.
WINNERS = {
    "Concentration": turn_pairs,
    "MineSweeper": look_where_no_mine_is,
    "Battleship": shoot_ships,
    "LabyrinthEscape": walk_everywhere,
    "LabyrinthExplore": walk_everywhere,
}


@pytest.mark.parametrize("task", WINNERS)
def test_an_episode_that_is_won_ends_as_in_popgym(task):
    env, _ = environments.make(f"memory::{task}Easy")
    theirs = package_task(task, "Easy")
    first, state = jax.jit(env.reset)(jax.random.key(3), None)
    state = jax.tree.map(np.asarray, state)
    TASKS[task][2](theirs, first, jax.tree.map(lambda leaf: leaf[None], state))
    actions = WINNERS[task](state)
    step = jax.jit(env.step)
    for key, action in zip(jax.random.split(jax.random.key(0), len(actions)), actions, strict=True):
        _, state, reward, terminated, truncated, info = step(key, state, np.int32(action), None)
        observation, their_reward, *their_ends, _ = theirs.step(package_action(theirs, action))
        np.testing.assert_array_equal(info["final_observation"], observation)
        np.testing.assert_allclose(reward, their_reward, rtol=1e-5)
        assert (terminated, truncated) == (their_ends[0], their_ends[1] and not their_ends[0])
        if terminated:
            break
    assert terminated
    assert reward > 0


@pytest.mark.parametrize("level", LEVELS)
def test_a_pole_that_stays_up_is_up_until_popgyms_limit(level):
    env, _ = environments.make(f"memory::StatelessCartPole{level}")
    theirs = package_task("StatelessCartPole", level)
    theirs.reset(seed=0)
    _, state = jax.jit(env.reset)(jax.random.key(0), None)
    step, ends, steps = jax.jit(env.step), [False, False], 0
    while not any(ends):
        set_cart_pole(theirs, jax.tree.map(np.asarray, state))
        action = np.int32(np.dot([0.1, 0.3, 3.0, 1.0], state.body) > 0)
        _, state, _, *ends, _ = step(jax.random.key(0), state, action, None)
        _, _, *their_ends, _ = theirs.step(action)
        assert ends == their_ends
        steps += 1
    assert ends == [False, True]
    assert steps == theirs.max_episode_length


def play_theirs(task, num_episodes):
    """Return what episodes of random actions show in their middle, their lengths and returns."""
    theirs = package_task(task, "Easy")
    theirs.action_space.seed(0)
    seen, lengths, totals = [], [], []
    for episode in range(num_episodes):
        theirs.reset(seed=episode)
        observations, total, ended = [], 0.0, False
        while not ended:
            observation, reward, terminated, truncated, _ = theirs.step(
                theirs.action_space.sample()
            )
            observations.append(observation)
            total, ended = total + reward, terminated or truncated
        seen.append(observations[len(observations) // 2])
        lengths.append(len(observations))
        totals.append(total)
    return np.array(seen, float).reshape(num_episodes, -1), lengths, totals


@pytest.mark.exhaustive
@pytest.mark.parametrize("task", [*TASKS, *NOISY])
def test_random_play_sees_lasts_and_earns_as_in_popgym(task):
    their_seen, their_lengths, their_returns = play_theirs(task, 50)
    _, _, final, _, reward, terminated, truncated = play(f"{task}Easy", 20_000, seed=1)
    ends = np.flatnonzero(terminated | truncated)
    lengths = np.diff(ends, prepend=-1)
    # One observation an episode: those of one episode are much alike.
    seen = final[ends - lengths + 1 + lengths // 2].astype(float).reshape(len(ends), -1)
    for ours, theirs in [
        *zip(seen.T[:8], their_seen.T[:8], strict=True),
        (lengths, their_lengths),
        (returns(reward, terminated | truncated), their_returns),
    ]:
        # Returns that are the same differ by rounding.
        assert ks_2samp(np.round(ours, 4), np.round(theirs, 4)).pvalue > 1e-3


def dead_ends(grids):
    """Return in how many cells of each maze a way ends."""
    cells = grids[:, 1::2, 1::2]
    walls = np.pad(grids, ((0, 0), (1, 1), (1, 1)))
    ways = sum(np.roll(walls, shift, axis)[:, 1:-1, 1:-1] for shift in (1, -1) for axis in (1, 2))
    return (cells & (ways[:, 1::2, 1::2] == 1)).sum((1, 2))


def test_mazes_are_carved_and_entered_as_the_packages_are():
    # Few enough steps for most of a maze to be carved at once, and some to be carved before.
    _, states, *_ = play_with_states("LabyrinthEscapeEasy", 400 * 4, episode_length=5)
    squares = states.grid[states.time == 0]
    starts = states.position[states.time == 0]
    ends = np.argwhere(squares == maze.GOAL)[:, 1:]
    assert len(starts) == len(ends) == 400
    theirs = package_task("LabyrinthEscape", "Easy")
    their_squares, their_starts, their_ends = [], [], []
    for seed in range(200):
        theirs.reset(seed=seed)
        their_squares.append(theirs.maze.grid)
        their_starts.append(theirs.maze.start)
        their_ends.append(theirs.maze.end)
    grids, their_grids = (kind != maze.OBSTACLE for kind in (squares, np.array(their_squares)))
    for ours, packages in [
        (dead_ends(grids), dead_ends(their_grids)),
        (grids.sum((1, 2)), their_grids.sum((1, 2))),
        *zip(starts.T, np.array(their_starts).T, strict=True),
        *zip(ends.T, np.array(their_ends).T, strict=True),
        *zip(
            grids[:, 1:4, 1:6].reshape(400, -1).T,
            their_grids[:, 1:4, 1:6].reshape(200, -1).T,
            strict=True,
        ),
    ]:
        assert ks_2samp(ours.astype(int), packages.astype(int)).pvalue > 1e-3


@pytest.mark.parametrize("cells", [3, 9, 32])
def test_a_maze_carved_in_pieces_has_no_loops_and_hardly_a_closed_cell(cells):
    numbers = jax.random.uniform(jax.random.key(0), (maze.numbers_needed(cells), 3))
    carving = maze.begin_carving(numbers, cells)
    carve = jax.jit(maze.carve)
    for _ in range(cells):
        carving = carve(carving, cells + 1)
    assert carving.finished
    free = np.asarray(maze.free_squares(carving))
    assert free.shape == (2 * cells + 1, 2 * cells + 1)
    assert not free[::2, ::2].any()
    num_cells, num_ways = free[1::2, 1::2].sum(), free.sum() - free[1::2, 1::2].sum()
    # A tree: one whole, with a way less than cells.
    assert ndimage.label(free)[1] == 1
    assert num_ways == num_cells - 1
    assert num_cells > 0.95 * cells**2


def test_mines_are_any_of_the_squares_and_as_many_as_asked_for():
    keys = jax.random.split(jax.random.key(0), 4_000)
    mines = np.asarray(jax.jit(jax.vmap(lambda key: draw_places(key, 6, 2)))(keys))
    assert (mines.sum(1) == 2).all()
    pairs = np.unique(mines, axis=0, return_counts=True)[1]
    assert len(pairs) == 15
    assert chisquare(pairs).pvalue > 1e-3


def test_a_ship_lies_wherever_there_is_place_for_it():
    board = jnp.zeros((3, 3), bool).at[1, 1].set(True)
    numbers = jax.random.bits(jax.random.key(0), (4_000,), jnp.uint32)
    boards = np.asarray(jax.jit(jax.vmap(lambda number: place_ship(number, board, 2)))(numbers))
    places, times = np.unique(boards, axis=0, return_counts=True)
    assert (places.sum((1, 2)) == 3).all()
    # Two on each side of the square in the middle.
    assert len(places) == 8
    assert chisquare(times).pvalue > 1e-3


def test_ships_lie_beside_each_other_as_in_popgym():
    env, _ = environments.make("memory::BattleshipEasy")
    keys = jax.random.split(jax.random.key(0), 80_000)
    ours = np.asarray(jax.jit(jax.vmap(lambda key: env.begin(key, None)[1].ships))(keys))
    theirs, package = np.zeros((8_000, 64), bool), package_task("Battleship", "Easy")
    for seed, board in enumerate(theirs):
        package.reset(seed=seed)
        board[:] = package.board.ravel() > 0
    # How often two squares have ships at once. Ships that are drawn by the same number are where
    # others are as often, one by one, but not together: that makes it 1.6 and more.
    pairs = np.triu_indices(64, 1)
    often, their_often = (
        (boards.T.astype(np.float32) @ boards.astype(np.float32))[pairs] / len(boards)
        for boards in (ours, theirs)
    )
    variance = their_often * (1 - their_often) * (1 / len(ours) + 1 / len(theirs))
    assert ((often - their_often) ** 2 / variance).mean() < 1.3


def test_what_is_asked_for_does_not_follow_from_what_is_shown():
    _, _, seen, *_ = play("CountRecallHard", STEPS)
    times = np.zeros((13, 13))
    np.add.at(times, tuple(seen.T), 1)
    assert chi2_contingency(times).pvalue > 1e-3


@pytest.mark.parametrize("task", NOISY)
@pytest.mark.parametrize("level", LEVELS)
def test_noise_is_popgyms_and_stays_within_the_space(task, level):
    env, _ = environments.make(f"memory::{task}{level}")
    theirs = package_task(task, level)
    assert theirs.noise_sigma[0] == env.noise_sigma
    space = env.observation_space(None)
    np.testing.assert_allclose(theirs.observation_space.high, space.high, rtol=1e-6)
    _, states, _, final, *_ = play_with_states(task + level, 20_000)
    final, kept = final[:-1], states.time[1:] > 0
    true = states.body[1:, ::2] if "Cart" in task else _direction(states.angle[1:])
    assert (np.abs(final) <= space.high).all()
    # Clipping both sides alike leaves the middle as it is: its quartiles are those of a normal.
    noise = (final - true)[kept]
    whole = np.abs(true[kept]) + 0.6745 * env.noise_sigma < space.high
    for axis in range(2):
        quarter = np.percentile(noise[whole[:, axis], axis], [25, 75])
        np.testing.assert_allclose(quarter, 0.6745 * env.noise_sigma * np.array([-1, 1]), rtol=0.1)


def _direction(angle):
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def test_velocities_are_seen_from_the_second_observation_on_as_in_popgym():
    first, states, shown, _, _, _, terminated, _ = play_with_states("VelocityOnlyCartPoleEasy", 400)
    np.testing.assert_allclose(first, states.body[0, ::2], rtol=1e-5)
    begun, body = terminated[:-1], states.body[1:]
    np.testing.assert_allclose(shown[:-1][begun], body[begun][:, ::2], rtol=1e-5)
    np.testing.assert_allclose(shown[:-1][~begun], body[~begun][:, 1::2], rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("CountRecallEasy", {"kinds": "colours"}, "CountRecall.kinds must be one of colors, suits"),
        ("ConcentrationEasy", {"kinds": "suits"}, "must be one with an even number of cards"),
        ("MineSweeperEasy", {"num_mines": 14}, "MineSweeper.num_mines must be an integer from"),
        (
            "BattleshipEasy",
            {"board_size": 7},
            "board_size must be an integer from 8 to 256, got",
        ),
        ("BattleshipEasy", {"board_size": 257}, "an integer from 8 to 256, got 257"),
        ("MineSweeperEasy", {"size": 257}, "MineSweeper.size must be .* from 2 to 256, got 257"),
        ("MultiarmedBanditEasy", {"num_bandits": 10**11}, "num_bandits must be .* 1 to 65536, got"),
        ("MultiarmedBanditEasy", {"episode_length": 2**31}, "episode_length must be .* 2147483647"),
        ("StatelessCartPoleEasy", {"noise_sigma": -0.1}, "StatelessCartPole.noise_sigma must be"),
        ("NoisyStatelessCartPoleEasy", {"noise_sigma": math.inf}, "noise_sigma must be .* got inf"),
        ("StatelessPendulumEasy", {"noise_sigma": math.nan}, "noise_sigma must be .* got nan"),
        ("StatelessPendulumEasy", {"max_episode_length": 2**31}, "must be .* 1 to 2147483647, got"),
        ("StatelessCartPoleEasy", {"max_episode_length": 2**31}, "must be .* 1 to 2147483647, got"),
        ("LabyrinthEscapeEasy", {"episode_length": 2**31}, "must be .* 2 to 2147483647, got"),
        ("LabyrinthEscapeEasy", {"maze_size": 7}, "LabyrinthEscape.maze_size must be even, got 7"),
        ("LabyrinthEscapeEasy", {"maze_size": 66}, "must be an integer from 6 to 64, got 66"),
    ],
)
def test_sizes_out_of_range_are_refused(name, params, words):
    with pytest.raises(ValueError, match=words):
        environments.make(f"memory::{name}", **params)


@pytest.mark.parametrize("num_decks", [0, 1_261])
@pytest.mark.parametrize(
    "task",
    [
        *("Autoencode", "Concentration", "CountRecall"),
        *("HigherLower", "RepeatFirst", "RepeatPrevious"),
    ],
)
def test_decks_that_are_too_many_to_count_are_refused(task, num_decks):
    words = f"{task}.num_decks must be an integer from 1 to 1260, got {num_decks}"
    with pytest.raises(ValueError, match=words):
        environments.make(f"memory::{task}Easy", num_decks=num_decks)
