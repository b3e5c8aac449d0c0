"""Random mazes without loops, carved a few cells at a time.

A row of a maze's cells is one integer whose bits are the cells, the lowest the leftmost, so
that carving takes a handful of operations however large the maze is.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int, PyTree, UInt32

from memorax.environments.memory.cards import find_in_proportion

FREE, OBSTACLE, START, GOAL = range(4)
MOST_CELLS = 32
"""Along a side: a row's bits."""
SIDES = UP, DOWN, LEFT, RIGHT = range(4)


@struct.dataclass
class Carving:
    """A maze that is being carved. Sets of cells are rows of bits, of shape (cells,).

    Attributes:
        visited: The cells that are free.
        right: The cells that are open to the one at their right.
        down: The cells that are open to the one below.
        place: The cell that the walk has come to.
        draws: Number of draws of a cell to begin a walk at.
        opened: Number of cells opened.
        finished: Whether carving is complete.
        numbers: Three uniform numbers for each cell to open. They are drawn at once, since what
            takes longest to compile is drawing.
    """

    visited: PyTree
    right: PyTree
    down: PyTree
    place: PyTree
    draws: PyTree
    opened: PyTree
    finished: PyTree
    numbers: PyTree


def numbers_needed(cells: int) -> int:
    """Return how many rows of three uniform numbers it takes to carve a maze."""
    return cells**2 + 1


def begin_carving(numbers: Float[Array, "rows 3"], cells: int) -> Carving:
    """Return a maze with ``cells`` along each side, of which one is free.

    Args:
        numbers: Uniform; as many rows as ``numbers_needed(cells)``.
        cells: Cells along each side.
    """
    row, column = _below(cells, numbers[0, :2])
    first, none = _single(row, column, cells), jnp.zeros(cells, jnp.uint32)
    begun = jnp.float32(0), jnp.int32(0), jnp.bool_(False)
    return Carving(first, none, none, first, *begun, numbers[1:])


def carve(carving: Carving, num_cells: Any) -> Carving:
    """Open the next cells of a maze, as many of ``num_cells`` as there are.

    Hunt and kill: a walk opens one new neighbour after the other until it is stuck, and begins
    again at a visited cell. Cells to begin at are drawn blindly, and only ``size ** 2`` times in
    all, with ``size = 2 * cells + 1``, so that once in a while a cell stays closed. Draws in vain
    are counted, not made: how many there are before the first of use is geometric.

    Source: the algorithm and its numbers as in mazelib 0.9.16, which POPGym's package uses.
    """
    until = carving.opened + num_cells
    numbers = carving.numbers

    def going(carving):
        return (carving.opened < until) & ~carving.finished

    def open_next(carving):
        return _open_cell(carving, *numbers[carving.opened])

    # What stays as it is need not be carried along.
    begun = dataclasses.replace(carving, numbers=None)
    return dataclasses.replace(jax.lax.while_loop(going, open_next, begun), numbers=numbers)


def _open_cell(carving: Carving, hunt: Array, choice: Array, turn: Array) -> Carving:
    """Open a cell, by three uniform numbers."""
    visited, place = carving.visited, carving.place
    cells = visited.size
    closed = ~visited & _all_of_a_row(cells)
    of_use = visited & _either(_moved(closed))
    counts = jax.lax.population_count(of_use).astype(jnp.int32)
    stuck = ~(of_use & place).any()
    share = counts.sum().astype(jnp.float32) / cells**2
    in_vain = jnp.floor(jnp.log(hunt) / jnp.log1p(-share))
    draws = carving.draws + jnp.where(stuck, in_vain + 1, 0)
    finished = (counts.sum() == 0) | (draws > (2 * cells + 1) ** 2)

    row, rest = _pick(choice, counts)
    in_row = jnp.where(jnp.arange(cells) == row, of_use, 0).sum(dtype=jnp.uint32)
    column = _of_rank(rest, in_row, cells)
    place = jnp.where(stuck, _single(row, column, cells), place)
    targets = _moved(place) & closed
    side, _ = _pick(turn, targets.any(-1).astype(jnp.int32))
    side = jnp.where(finished, len(SIDES), side)
    new = _either(jnp.where((jnp.arange(len(SIDES)) == side)[:, None], targets, 0))

    def opened(there, back):
        return jnp.where(side == there, place, jnp.where(side == back, new, 0))

    return Carving(
        visited | new,
        carving.right | opened(RIGHT, LEFT),
        carving.down | opened(DOWN, UP),
        jnp.where(finished, place, new),
        draws,
        carving.opened + 1,
        finished,
        None,
    )


def _all_of_a_row(cells: int) -> UInt32[Array, ""]:
    return jnp.uint32(2**cells - 1)


def _single(row: Array, column: Array, cells: int) -> UInt32[Array, "cells"]:
    """Return the set of one cell."""
    bit = jnp.uint32(1) << column.astype(jnp.uint32)
    return jnp.where(jnp.arange(cells) == row, bit, jnp.uint32(0))


def _moved(rows: Array) -> UInt32[Array, "sides cells"]:
    """Return a set of cells moved up, down, left and right; what leaves the maze is gone."""
    none = jnp.zeros(1, jnp.uint32)
    up, down = jnp.concatenate([rows[1:], none]), jnp.concatenate([none, rows[:-1]])
    return jnp.stack([up, down, rows >> 1, (rows << 1) & _all_of_a_row(rows.size)])


def _either(sets: Array) -> UInt32[Array, "cells"]:
    return sets[0] | sets[1] | sets[2] | sets[3]


def _pick(number: Array, weights: Array) -> tuple[Array, Array]:
    """Pick an index as often as its weight says, by a uniform number."""
    return find_in_proportion(jnp.floor(number * weights.sum()).astype(jnp.int32), weights)


def _of_rank(rank: Array, bits: Array, cells: int) -> Array:
    """Return which of a number's bits is set and has as many below it that are."""
    up_to = (jnp.uint32(2) << jnp.arange(cells, dtype=jnp.uint32)) - 1
    return (jax.lax.population_count(bits & up_to).astype(jnp.int32) <= rank).sum()


def free_squares(carving: Carving) -> Bool[Array, "size size"]:
    """Return where a maze is free: cells are at odd rows and columns, ``size = 2 * cells + 1``."""
    cells = carving.visited.size
    columns = jnp.arange(cells, dtype=jnp.uint32)
    visited, right, down = (
        (rows[:, None] >> columns) & 1 == 1
        for rows in (carving.visited, carving.right, carving.down)
    )
    odd = jnp.stack([visited, right], axis=-1).reshape(cells, 2 * cells)
    even = jnp.stack([down, jnp.zeros_like(down)], axis=-1).reshape(cells, 2 * cells)
    return jnp.pad(jnp.stack([odd, even], axis=1).reshape(2 * cells, 2 * cells), ((1, 0), (1, 0)))


def entrances(numbers: Float[Array, "3"], cells: int) -> tuple[Int[Array, "2"], Int[Array, "2"]]:
    """Return rows and columns of two places in opposite outer walls, beside random cells.

    Args:
        numbers: Uniform.
        cells: Cells along each side of the maze.
    """
    side = _below(len(SIDES), numbers[0])
    first, second = 2 * _below(cells, numbers[1:]) + 1
    last = 2 * cells
    starts = jnp.array([[0, 0], [last, 0], [0, 0], [0, last]])[side]
    ends = jnp.array([[last, 0], [0, 0], [0, last], [0, 0]])[side]
    along = jnp.where(side < 2, jnp.array([0, 1]), jnp.array([1, 0]))
    return starts + first * along, ends + second * along


def _below(bound: int, numbers: Array) -> Array:
    """Return integers below a bound, by uniform ones.

    ``jax.random.randint`` draws three times, and each draw takes long to compile.
    """
    return jnp.floor(numbers * bound).astype(jnp.int32)


def view(grid: Any, position: Any) -> Int[Array, "9"]:
    """Return the squares around a place, row by row, as POPGym's package shows them.

    At the maze's upper or left edge the view begins at the edge, and the row or column that it
    lacks is filled with obstacles at its end.
    """
    padded = jnp.pad(grid, ((0, 2), (0, 2)), constant_values=OBSTACLE)
    seen = jax.lax.dynamic_slice(padded, jnp.maximum(position - 1, 0), (3, 3))
    last = jnp.arange(3) == 2
    lacks = (last[:, None] & (position[0] == 0)) | (last & (position[1] == 0))
    return jnp.where(lacks, OBSTACLE, seen).ravel()
