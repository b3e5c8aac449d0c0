"""Take a key, pick apples in the meantime, and open its door at the end."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, PyTree

from memorax.environments.memory.task import WIDEST_BOARD, Advance, Task
from memorax.environments.spaces import Box, Discrete, Space
from memorax.validation import LARGEST, check_integer

MOVES = ((0, 1), (-1, 0), (0, -1), (1, 0))
"""Right, up, left and down, in rows and columns."""
KEY_ROOM, APPLE_ROOM, DOOR_ROOM = range(3)
NO_KEY = 0
APPLE_REWARD, DOOR_REWARD = 0.1, 1.0


@struct.dataclass
class KeyToDoorState:
    """The state of ``KeyToDoor``.

    Attributes:
        position: The agent's row and column, of shape (2,).
        key: The row and column where the key lay, of shape (2,).
        color: The key's colour, -1 or 1.
        held: The colour of the key that is held, 0 if none is.
        apples: Where apples are, of shape (room_size, room_size).
        time: Steps since the episode began.
    """

    position: PyTree
    key: PyTree
    color: PyTree
    held: PyTree
    apples: PyTree
    time: PyTree


@dataclass(frozen=True)
class KeyToDoor(Task):
    """A key lies in the first room, apples in the second; the third has a door of either colour.

    Actions are right, up, left and down. What lies on a square is taken by walking onto it: the
    key, which earns nothing, and apples, which earn 0.1 each and have nothing to do with it. After
    so many steps the next room is entered by itself. The door of the key's colour (the upper left
    corner for -1, the upper right one for 1) earns 1 for who holds the key; either door terminates
    the episode, and so does the time in the last room. The key's colour is seen in the first room
    until it is taken, and not after.

    Observations are the agent's row and column (from -1 to 1), which of the three rooms it is
    (three numbers), the key's row, column and colour (0 where there is none to be seen), and where
    apples are (1), row by row.

    Attributes:
        room_size: Squares along each side of each room, from 2 to 256.
        num_apples: Apples in the second room.
        steps_with_key: Steps in the first room, enough to reach any square by default.
        steps_with_apples: Steps in the second room: how long the key has to be remembered.
        steps_with_doors: Steps in the third room.

    Raises:
        ValueError: If the size is out of its range, no square is left beside the apples, or a room
            has no step, or too many to count.

    Source: Hung et al. 2019, "Optimizing agent behavior over long time scales by transporting
    value", arXiv 1810.06721. There any key opens the one door; here colours make acting, not only
    learning, need a memory.
    """

    room_size: int = 5
    num_apples: int = 5
    steps_with_key: int = 10
    steps_with_apples: int = 15
    steps_with_doors: int = 10

    def __post_init__(self):
        """Check the fields."""
        check_integer("KeyToDoor.room_size", self.room_size, 2, WIDEST_BOARD)
        check_integer("KeyToDoor.num_apples", self.num_apples, 0, self.room_size**2 - 1)
        for field in ("steps_with_key", "steps_with_apples", "steps_with_doors"):
            # The three of them are added up.
            check_integer(f"KeyToDoor.{field}", getattr(self, field), 1, LARGEST // 3)

    def _room(self, time):
        leaves_key = time >= self.steps_with_key
        leaves_apples = time >= self.steps_with_key + self.steps_with_apples
        return leaves_key.astype(jnp.int32) + leaves_apples

    def _observe(self, state):
        room = self._room(state.time)
        far = (self.room_size - 1) / 2
        key = jnp.concatenate([state.key / far - 1, state.color[None]])
        key_in_sight = (room == KEY_ROOM) & (state.held == NO_KEY)
        apples = jnp.where(room == APPLE_ROOM, state.apples, False)
        parts = (
            state.position / far - 1,
            jax.nn.one_hot(room, 3),
            jnp.where(key_in_sight, key, 0.0),
            apples.ravel(),
        )
        return jnp.concatenate([part.astype(jnp.float32) for part in parts])

    def begin(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return an episode's first observation and its state."""
        position_key, key_key, color_key, apples_key = jax.random.split(key, 4)
        squares = jnp.arange(self.room_size**2)
        apples = jax.random.permutation(apples_key, squares < self.num_apples)
        position = jax.random.randint(position_key, (2,), 0, self.room_size)
        # Not under the agent, who could not walk onto it.
        offset = jax.random.randint(key_key, (), 1, self.room_size**2)
        place = (position[0] * self.room_size + position[1] + offset) % self.room_size**2
        state = KeyToDoorState(
            position=position,
            key=jnp.stack(jnp.divmod(place, self.room_size)),
            color=jnp.where(jax.random.bernoulli(color_key), 1, -1),
            held=jnp.int32(NO_KEY),
            apples=apples.reshape(self.room_size, self.room_size),
            time=jnp.int32(0),
        )
        return self._observe(state), state

    def advance(self, key: Array, state: PyTree, action: Array, params: Any) -> Advance:
        """Act once within an episode."""
        room, last = self._room(state.time), self.room_size - 1
        position = jnp.clip(state.position + jnp.array(MOVES)[action], 0, last)
        row, column = position
        takes_key = (room == KEY_ROOM) & (position == state.key).all()
        held = jnp.where(takes_key, state.color, state.held)
        takes_apple = (room == APPLE_ROOM) & state.apples[row, column]
        squares = jnp.arange(self.room_size)
        here = (squares[:, None] == row) & (squares == column)
        apples = state.apples & ~(here & takes_apple)
        door = jnp.select([column == 0, column == last], [-1, 1], NO_KEY)
        at_door = (room == DOOR_ROOM) & (row == 0) & (door != NO_KEY)
        reward = jnp.where(takes_apple, APPLE_REWARD, 0.0)
        reward = jnp.where(at_door & (door == held), DOOR_REWARD, reward)
        time = state.time + 1
        # Between the doors, so that neither is nearer.
        enters = (room != DOOR_ROOM) & (self._room(time) == DOOR_ROOM)
        position = jnp.where(enters, jnp.array([last, self.room_size // 2]), position)
        state = KeyToDoorState(position, state.key, state.color, held, apples, time)
        steps = self.steps_with_key + self.steps_with_apples + self.steps_with_doors
        return self._observe(state), state, reward, at_door | (time >= steps), jnp.bool_(False)

    def render_text(self, state: PyTree, params: Any) -> str:
        """Return the room: A the agent, K the key, o apples, D the key's door, d the other one."""
        room, color = int(self._room(state.time)), int(state.color)
        squares = np.full((self.room_size, self.room_size), "·")
        if room == KEY_ROOM and int(state.held) == NO_KEY:
            squares[tuple(np.asarray(state.key))] = "K"
        elif room == APPLE_ROOM:
            squares[np.asarray(state.apples)] = "o"
        elif room == DOOR_ROOM:
            squares[0, 0], squares[0, -1] = ("D", "d") if color < 0 else ("d", "D")
        squares[tuple(np.asarray(state.position))] = "A"
        held = "held" if int(state.held) else "not held"
        title = f"room of the {('key', 'apples', 'doors')[room]}; the key ({color}) is {held}"
        return "\n".join([title, *("".join(row) for row in squares)])

    def observation_space(self, params: Any) -> Space:
        """Return the space of observations."""
        return Box(-1.0, 1.0, (8 + self.room_size**2,))

    def action_space(self, params: Any) -> Space:
        """Return right, up, left and down."""
        return Discrete(4)
