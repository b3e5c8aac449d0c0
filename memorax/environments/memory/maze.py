"""Random mazes without loops."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from memorax.environments.memory.cards import draw_in_proportion

FREE, OBSTACLE, START, GOAL = range(4)
SIDES = ((-1, 0), (1, 0), (0, -1), (0, 1))
"""Up, down, left and right, in rows and columns."""


def carve(key: Array, cells: int) -> Bool[Array, "size size"]:
    """Return where a maze is free; cells are at odd rows and columns, ``size = 2 * cells + 1``.

    Hunt and kill: a walk opens one new neighbour after the other until it is stuck, and begins
    again at a visited cell. Cells to begin at are drawn blindly, and only ``size ** 2`` times in
    all, so that once in a while a cell stays closed. Draws in vain are counted, not made: how many
    there are before the first of use is geometric.

    Args:
        key: A PRNG key.
        cells: Cells along each side.

    Source: the algorithm and its numbers as in mazelib 0.9.16, which POPGym's package uses.
    """
    size = 2 * cells + 1
    rows, columns = jnp.arange(cells)[:, None], jnp.arange(cells)
    sides = jnp.array(SIDES)

    def open_cell(loop):
        key, visited, grid, cell, draws, _ = loop
        key, hunt_key, cell_key, side_key = jax.random.split(key, 4)
        padded = jnp.pad(visited, 1, constant_values=True)
        closed = jnp.stack(
            [~padded[1 + r : 1 + r + cells, 1 + c : 1 + c + cells] for r, c in SIDES], axis=-1
        )
        of_use = visited & closed.any(-1)
        stuck = ~of_use[cell[0], cell[1]]
        chance = of_use.sum() / cells**2
        in_vain = jnp.floor(jnp.log(jax.random.uniform(hunt_key)) / jnp.log1p(-chance))
        draws = draws + jnp.where(stuck, in_vain + 1, 0)
        hunted = jnp.stack(jnp.divmod(draw_in_proportion(cell_key, of_use.ravel()), cells))
        cell = jnp.where(stuck, hunted, cell)
        side = sides[draw_in_proportion(side_key, closed[cell[0], cell[1]])]
        going = of_use.any() & (draws <= size**2)
        new = cell + side
        is_new = going & (rows == new[0]) & (columns == new[1])
        between = 2 * cell + 1 + side
        places = jnp.arange(size)
        is_between = going & (places[:, None] == between[0]) & (places == between[1])
        return key, visited | is_new, grid | is_between, jnp.where(going, new, cell), draws, going

    key, first_key = jax.random.split(key)
    first = jax.random.randint(first_key, (2,), 0, cells)
    visited = (rows == first[0]) & (columns == first[1])
    grid = jnp.zeros((size, size), bool)
    loop = (key, visited, grid, first, jnp.float32(0), jnp.bool_(True))
    _, visited, grid, *_ = jax.lax.while_loop(lambda loop: loop[-1], open_cell, loop)
    return grid.at[1::2, 1::2].set(visited)


def entrances(key: Array, cells: int) -> tuple[Int[Array, "2"], Int[Array, "2"]]:
    """Return rows and columns of two places in opposite outer walls, beside random cells."""
    side_key, places_key = jax.random.split(key)
    first, second = 2 * jax.random.randint(places_key, (2,), 0, cells) + 1
    last = 2 * cells
    side = jax.random.randint(side_key, (), 0, 4)
    starts = jnp.array([[0, 0], [last, 0], [0, 0], [0, last]])[side]
    ends = jnp.array([[last, 0], [0, 0], [0, last], [0, 0]])[side]
    along = jnp.where(side < 2, jnp.array([0, 1]), jnp.array([1, 0]))
    return starts + first * along, ends + second * along


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
