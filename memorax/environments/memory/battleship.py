"""Sink ships that are not seen."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, PyTree, UInt32

from memorax.environments.memory.cards import find_in_proportion, whole_below
from memorax.environments.memory.task import WIDEST_BOARD, Advance, Task
from memorax.environments.spaces import Discrete, Space
from memorax.validation import check_integer

SHIP_SIZES = (2, 3, 3, 4)


@struct.dataclass
class BattleshipState:
    """The state of ``Battleship``. Arrays of shape (squares,).

    Attributes:
        ships: Where ships are.
        guessed: Which squares have been shot at.
        hits: Number of squares with ships that were hit.
        time: Steps since the episode began.
    """

    ships: PyTree
    guessed: PyTree
    hits: PyTree
    time: PyTree


def place_ship(
    number: UInt32[Array, ""], board: Bool[Array, "size size"], ship_size: int
) -> Bool[Array, "size size"]:
    """Return the board with one more ship, across or down, all free places as likely.

    The package draws places until one is free, which comes to the same.
    """
    size = board.shape[0]
    corners = size - ship_size + 1
    # Rows first, then columns; a row of them are the places of a ship that lies along it.
    lines = jnp.concatenate([board, board.T])
    taken = jnp.stack([lines[:, part : part + corners] for part in range(ship_size)]).any(axis=0)
    free = (~taken).astype(jnp.int32)
    # In two steps, since the sums along all places at once take the square of their number.
    in_line = free.sum(axis=1)
    line, rest = find_in_proportion(whole_below(in_line.sum(), number), in_line)
    place, _ = find_in_proportion(rest, free[line])
    is_down = line >= size
    row, column = jnp.where(is_down, place, line), jnp.where(is_down, line - size, place)
    rows, columns = jnp.arange(size)[:, None], jnp.arange(size)
    height, width = jnp.where(is_down, ship_size, 1), jnp.where(is_down, 1, ship_size)
    in_rows = (rows >= row) & (rows < row + height)
    return board | (in_rows & (columns >= column) & (columns < column + width))


@dataclass(frozen=True)
class Battleship(Task):
    """Each action shoots at a square; the observation is whether it hit a ship for the first time.

    A hit earns 1 / squares with ships, any other shot loses 1 / squares without. The episode
    terminates when all ships are sunk, four of sizes 2, 3, 3 and 4, and a time limit ends it after
    as many steps as there are squares. Squares are numbered row by row (the package's actions are a
    row and a column).

    Attributes:
        board_size: Squares along each side, from 8, so that the ships fit, to 256.

    Raises:
        ValueError: If the size is out of its range.

    Source: Morad et al. 2023, "POPGym", arXiv 2303.01859; sizes as in its package, version 1.0.7.
    """

    board_size: int = 10

    def __post_init__(self):
        """Check the fields."""
        # The first three ships take 8 squares: of 8 rows one is free of them, or all have four free
        # squares side by side. So the last ship always has a place.
        check_integer("Battleship.board_size", self.board_size, 8, WIDEST_BOARD)

    def begin(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return an episode's first observation and its state."""
        board = jnp.zeros((self.board_size, self.board_size), bool)
        numbers = jax.random.bits(key, (len(SHIP_SIZES),), jnp.uint32)
        for size, number in zip(SHIP_SIZES, numbers, strict=True):
            board = place_ship(number, board, size)
        ships = board.ravel()
        state = BattleshipState(ships, jnp.zeros_like(ships), jnp.int32(0), jnp.int32(0))
        return jnp.int32(0), state

    def advance(self, key: Array, state: PyTree, action: Array, params: Any) -> Advance:
        """Act once within an episode."""
        squares, targets = self.board_size**2, sum(SHIP_SIZES)
        hit = state.ships[action] & ~state.guessed[action]
        reward = jnp.where(hit, 1 / targets, -1 / (squares - targets))
        guessed = state.guessed | (jnp.arange(squares) == action)
        hits, time = state.hits + hit, state.time + 1
        state = BattleshipState(state.ships, guessed, hits, time)
        return hit.astype(jnp.int32), state, reward, hits == targets, time >= squares

    def render_text(self, state: PyTree, params: Any) -> str:
        """Return the board: S ships, X where they are hit, o where shots have missed."""
        ships, guessed = np.asarray(state.ships), np.asarray(state.guessed)
        squares = np.where(ships, np.where(guessed, "X", "S"), np.where(guessed, "o", "·"))
        return "\n".join(" ".join(row) for row in squares.reshape(self.board_size, -1))

    def observation_space(self, params: Any) -> Space:
        """Return whether the last shot hit."""
        return Discrete(2)

    def action_space(self, params: Any) -> Space:
        """Return the squares."""
        return Discrete(self.board_size**2)
