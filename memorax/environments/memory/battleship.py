"""Sink ships that are not seen."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, PyTree

from memorax.environments.memory.task import Advance, Task
from memorax.environments.spaces import Discrete, Space
from memorax.validation import check_whole

SHIP_SIZES = (2, 3, 3, 4)


@struct.dataclass
class BattleshipState:
    """The state of ``Battleship``. Arrays of shape (squares,).

    Attributes:
        ships: Where ships are.
        guessed: Which squares have been shot at.
        time: Steps since the episode began.
    """

    ships: PyTree
    guessed: PyTree
    time: PyTree


def places_for_ship(board_size: int, ship_size: int) -> Bool[np.ndarray, "places squares"]:
    """Return the squares of every place where a ship can lie on an empty board."""
    corners, steps = np.arange(board_size - ship_size + 1), np.arange(ship_size)
    lines = np.arange(board_size)
    along = corners[:, None, None] + steps
    across = board_size * lines[None, :, None] + along
    down = lines[None, :, None] + board_size * along
    squares = np.concatenate([across, down]).reshape(-1, ship_size)
    return (squares[:, :, None] == np.arange(board_size**2)).any(axis=1)


@dataclass(frozen=True)
class Battleship(Task):
    """Each action shoots at a square; the observation is whether it hit a ship for the first time.

    A hit earns 1 / squares with ships, any other shot loses 1 / squares without. The episode
    terminates when all ships are sunk, four of sizes 2, 3, 3 and 4, and a time limit ends it after
    as many steps as there are squares. Squares are numbered row by row (the package's actions are a
    row and a column).

    Attributes:
        board_size: Squares along each side.

    Raises:
        ValueError: If a side has less than 8 squares, where the ships may not fit.

    Source: Morad et al. 2023, "POPGym", arXiv 2303.01859; sizes as in its package, version 1.0.7.
    """

    board_size: int = 10

    def __post_init__(self):
        """Check the fields."""
        # The first three ships take 8 squares: of 8 rows one is free of them, or all have four free
        # squares side by side. So the last ship always has a place.
        check_whole("Battleship.board_size", self.board_size, 8)

    def begin(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return an episode's first observation and its state."""
        ships = jnp.zeros(self.board_size**2, bool)
        for size, ship_key in zip(SHIP_SIZES, jax.random.split(key, len(SHIP_SIZES)), strict=True):
            # The package draws until a place is free, which makes all free places as likely.
            places = jnp.asarray(places_for_ship(self.board_size, size))
            free = ~(places & ships).any(axis=1)
            place = jax.random.categorical(ship_key, jnp.where(free, 0.0, -jnp.inf))
            ships |= places[place]
        return jnp.int32(0), BattleshipState(ships, jnp.zeros_like(ships), jnp.int32(0))

    def advance(self, key: Array, state: PyTree, action: Array, params: Any) -> Advance:
        """Act once within an episode."""
        squares, targets = self.board_size**2, sum(SHIP_SIZES)
        hit = state.ships[action] & ~state.guessed[action]
        reward = jnp.where(hit, 1 / targets, -1 / (squares - targets))
        guessed = state.guessed.at[action].set(True)
        time = state.time + 1
        sunk = (guessed | ~state.ships).all()
        state = BattleshipState(state.ships, guessed, time)
        return hit.astype(jnp.int32), state, reward, sunk, time >= squares

    def observation_space(self, params: Any) -> Space:
        """Return whether the last shot hit."""
        return Discrete(2)

    def action_space(self, params: Any) -> Space:
        """Return the squares."""
        return Discrete(self.board_size**2)
