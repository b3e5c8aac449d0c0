"""Find the way out of a maze, or see all of it."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, PyTree

from memorax.environments.memory.maze import (
    FREE,
    GOAL,
    MOST_CELLS,
    OBSTACLE,
    START,
    begin_carving,
    carve,
    entrances,
    free_squares,
    numbers_needed,
    view,
)
from memorax.environments.memory.task import Advance, Task
from memorax.environments.spaces import Discrete, MultiDiscrete, Space
from memorax.validation import check_integer

MOVES = ((0, -1), (0, 1), (-1, 0), (1, 0))
"""Left, right, up and down, in rows and columns."""
NO_MOVE = len(MOVES)
CARVED_AT_A_STEP = 2
"""Cells: the next maze is done before all but the shortest episodes are."""


@struct.dataclass
class LabyrinthState:
    """The state of ``LabyrinthEscape`` and ``LabyrinthExplore``.

    Attributes:
        grid: Kind of each square, of shape (maze_size + 1, maze_size + 1).
        explored: Where the agent has been.
        position: The agent's row and column, of shape (2,).
        time: Steps since the episode began.
        next_maze: The next episode's, carved during this one: to carve a whole maze takes as
            long as many steps, and somewhere an episode nearly always ends.
    """

    grid: PyTree
    explored: PyTree
    position: PyTree
    time: PyTree
    next_maze: PyTree


def _draw(key: Array, rows: int) -> Array:
    """Return rows of three uniform numbers; drawn in a line, they compile in half the time."""
    return jax.random.uniform(key, (3 * rows,), jnp.float32).reshape(rows, 3)


@dataclass(frozen=True)
class LabyrinthEscape(Task):
    """Find the exit of a maze, which is new in every episode.

    Observations are the three by three squares around the agent (0 free, 1 obstacle, 2 start,
    3 goal) and the last action, 4 at first; actions are left, right, up and down, and to walk
    against an obstacle changes nothing. The exit, opposite to the start, earns 1 and terminates the
    episode; each step loses 1 / episode_length, and a time limit ends it a step before that.

    At the upper and left edge the squares begin at the edge, as in the package.

    Attributes:
        maze_size: Squares along each side but one; even, from 6 to 64.
        episode_length: One more than the time limit.

    Raises:
        ValueError: If the maze is odd or of a size out of range, or there is no step.

    Source: Morad et al. 2023, "POPGym", arXiv 2303.01859; sizes as in its package, version 1.0.7,
    which warns that its mazes can be solved without memory.
    """

    maze_size: int = 10
    episode_length: int = 1024

    def __post_init__(self):
        """Check the fields."""
        name = type(self).__name__
        check_integer(f"{name}.maze_size", self.maze_size, 6, 2 * MOST_CELLS)
        if self.maze_size % 2:
            raise ValueError(f"{name}.maze_size must be even, got {self.maze_size}")
        check_integer(f"{name}.episode_length", self.episode_length, 2)

    def _mark_goal(self, grid, goal):
        return grid.at[goal[0], goal[1]].set(GOAL)

    def begin(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return an episode's first observation and its state."""
        needed = numbers_needed(self._cells)
        numbers = _draw(key, 2 * needed + 1)
        maze = begin_carving(numbers[:needed], self._cells)
        return self._enter(numbers[needed:], carve(maze, self._cells**2))

    def begin_next(self, key: Array, state: PyTree, params: Any) -> tuple[PyTree, PyTree]:
        """Return the first observation in the maze that is next, and the state."""
        return self._enter(_draw(key, numbers_needed(self._cells) + 1), state.next_maze)

    def _enter(self, numbers, maze):
        start, goal = entrances(numbers[0], self._cells)
        grid = jnp.where(free_squares(maze), FREE, OBSTACLE)
        grid = self._mark_goal(grid, goal).at[start[0], start[1]].set(START)
        explored = jnp.zeros(grid.shape, bool).at[start[0], start[1]].set(True)
        next_maze = begin_carving(numbers[1:], self._cells)
        state = LabyrinthState(grid, explored, start, jnp.int32(0), next_maze)
        return self._observe(state, jnp.int32(NO_MOVE)), state

    @property
    def _cells(self):
        return self.maze_size // 2

    def _observe(self, state, action):
        return jnp.append(view(state.grid, state.position), action.astype(jnp.int32))

    def _move(self, state, action):
        """Return the state after an action, and whether it led to a new square."""
        ahead = jnp.clip(state.position + jnp.array(MOVES)[action], 0, self.maze_size)
        blocked = state.grid[ahead[0], ahead[1]] == OBSTACLE
        row, column = position = jnp.where(blocked, state.position, ahead)
        places = jnp.arange(self.maze_size + 1)
        here = (places[:, None] == row) & (places == column)
        is_new = ~state.explored[row, column]
        explored = state.explored | here
        time = state.time + 1
        return LabyrinthState(state.grid, explored, position, time, state.next_maze), is_new

    def advance(self, key: Array, state: PyTree, action: Array, params: Any) -> Advance:
        """Act once within an episode."""
        state, is_new = self._move(state, action)
        reward, terminated = self._judge(state, is_new)
        limit = state.time >= self.episode_length - 1
        num_cells = jnp.where(terminated | limit, self._cells**2, CARVED_AT_A_STEP)
        state = state.replace(next_maze=carve(state.next_maze, num_cells))
        return self._observe(state, action), state, reward, terminated, limit

    def _judge(self, state, is_new):
        """Return the reward of a step, and whether it ends the episode."""
        escaped = state.grid[state.position[0], state.position[1]] == GOAL
        return jnp.where(escaped, 1.0, 0.0) - 1 / self.episode_length, escaped

    def render_text(self, state: PyTree, params: Any) -> str:
        """Return the maze: A the agent, S the start, G the exit, · where the agent has been."""
        grid = np.asarray(state.grid)
        squares = np.array(list(" █SG"))[grid]
        squares[np.asarray(state.explored) & (grid == FREE)] = "·"
        squares[tuple(np.asarray(state.position))] = "A"
        return "\n".join("".join(row) for row in squares)

    def observation_space(self, params: Any) -> Space:
        """Return the squares in sight, and the last action."""
        return MultiDiscrete(0, np.array([GOAL] * 9 + [NO_MOVE]), (10,))

    def action_space(self, params: Any) -> Space:
        """Return left, right, up and down."""
        return Discrete(len(MOVES))


@dataclass(frozen=True)
class LabyrinthExplore(LabyrinthEscape):
    """See all of a maze, which is new in every episode and has no exit.

    Observations, actions and the time limit as in ``LabyrinthEscape``. A new square earns
    1 / free squares, any other step loses 1 / episode_length, and the episode terminates when all
    squares have been walked on.
    """

    def _mark_goal(self, grid, goal):
        return grid

    def _judge(self, state, is_new):
        free = (state.grid == FREE).sum()
        reward = jnp.where(is_new, 1 / free, -1 / self.episode_length)
        return reward, jnp.all(state.explored == (state.grid != OBSTACLE))
