"""Clear a field without stepping on a mine."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, PyTree

from memorax.environments.memory.task import WIDEST_BOARD, Advance, Task
from memorax.environments.spaces import Discrete, Space
from memorax.validation import check_integer

MOST_NEIGHBORS = 9


@struct.dataclass
class MineSweeperState:
    """The state of ``MineSweeper``.

    Attributes:
        mines: Where mines are, of shape (size, size).
        viewed: Which squares have been looked at.
        time: Steps since the episode began.
    """

    mines: PyTree
    viewed: PyTree
    time: PyTree


def draw_places(key: Array, num_places: int, num_drawn: int) -> Bool[Array, "places"]:
    """Return which places are drawn, all choices of so many being as likely.

    One place after the other is taken or not, which is faster here than to shuffle them: a mine
    ends an episode soon, so that somewhere one nearly always begins.

    Source: Knuth, "The Art of Computer Programming", volume 2, section 3.4.2, algorithm S.
    """

    def decide(wanted, place):
        number, places_left = place
        drawn = number * places_left < wanted
        return wanted - drawn, drawn

    places = jax.random.uniform(key, (num_places,)), jnp.arange(num_places, 0, -1)
    return jax.lax.scan(decide, jnp.int32(num_drawn), places)[1]


@dataclass(frozen=True)
class MineSweeper(Task):
    """Each action looks at a square; the observation is how many mines are on and around it.

    A new square without a mine earns 1 / squares without mines; one looked at before loses
    0.5 / (those - 2). A mine loses 0.5 and what a new square earns, and terminates the episode, as
    does the last square without one. A time limit ends it after as many steps. Squares are numbered
    row by row (the package's actions are a row and a column).

    Attributes:
        size: Squares along each side, from 2 to 256.
        num_mines: Mines.

    Raises:
        ValueError: If the size is out of its range, there is no mine, or less than 3 squares
            without one.

    Source: Morad et al. 2023, "POPGym", arXiv 2303.01859; sizes as in its package, version 1.0.7.
    """

    size: int = 4
    num_mines: int = 2

    def __post_init__(self):
        """Check the fields."""
        check_integer("MineSweeper.size", self.size, 2, WIDEST_BOARD)
        check_integer("MineSweeper.num_mines", self.num_mines, 1, self.size**2 - 3)

    def begin(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return an episode's first observation and its state."""
        mines = draw_places(key, self.size**2, self.num_mines)
        viewed = jnp.zeros((self.size, self.size), bool)
        state = MineSweeperState(mines.reshape(viewed.shape), viewed, jnp.int32(0))
        return jnp.int32(0), state

    def advance(self, key: Array, state: PyTree, action: Array, params: Any) -> Advance:
        """Act once within an episode."""
        safe = self.size**2 - self.num_mines
        square = jnp.divmod(action, self.size)
        struck, again = state.mines[square], state.viewed[square]
        reward = jnp.where(again, -0.5 / (safe - 2), 1 / safe)
        reward = jnp.where(struck, -0.5 - 1 / safe, reward)
        viewed = state.viewed.at[square].set(True)
        around = jax.lax.dynamic_slice(jnp.pad(state.mines, 1), square, (3, 3))
        time = state.time + 1
        ended = struck | jnp.logical_or(viewed, state.mines).all()
        state = MineSweeperState(state.mines, viewed, time)
        return around.sum(dtype=jnp.int32), state, reward, ended, time >= safe

    def render_text(self, state: PyTree, params: Any) -> str:
        """Return the field: * mines, · squares to look at, numbers where that has been done."""
        mines, viewed = np.asarray(state.mines), np.asarray(state.viewed)
        around = np.lib.stride_tricks.sliding_window_view(np.pad(mines, 1), (3, 3)).sum((2, 3))
        squares = np.where(mines, "*", np.where(viewed, around.astype(str), "·"))
        return "\n".join(" ".join(row) for row in squares)

    def observation_space(self, params: Any) -> Space:
        """Return the numbers of mines."""
        return Discrete(min(self.num_mines, MOST_NEIGHBORS) + 1)

    def action_space(self, params: Any) -> Space:
        """Return the squares."""
        return Discrete(self.size**2)
