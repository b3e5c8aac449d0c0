"""A corridor with a turn at its end that an oracle at its beginning shows."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, PyTree

from memorax.environments.memory.task import Advance, Task
from memorax.environments.spaces import Box, Discrete, Space
from memorax.validation import LARGEST, check_integer

RIGHT, UP, LEFT, DOWN = range(4)


@struct.dataclass
class TMazeState:
    """The state of ``TMaze``.

    Attributes:
        goal: 1 if up is right, -1 if down is.
        position: Steps from the oracle.
        time: Steps since the episode began.
    """

    goal: PyTree
    position: PyTree
    time: PyTree


@dataclass(frozen=True)
class TMaze(Task):
    """Walk along a corridor and turn up or down at its end, as the oracle at its beginning showed.

    Observations are (the oracle's direction: 1 up, -1 down, 0 elsewhere; whether at the oracle; in
    the corridor; at the junction), actions right, up, left and down. The right turn earns 1; either
    turn terminates the episode, and so does the time that the shortest way takes.

    Attributes:
        corridor_length: Steps from the oracle to the junction.
        active: Begin a step away from the oracle, which has to be walked to first.
        late_penalty: Lose 1 / corridor_length with each step that ends behind where the shortest
            way would be. Then walking is learned without memory, and the turn alone needs it.

    Raises:
        ValueError: If the corridor has no length, or one that cannot be counted.

    Source: Ni et al. 2023, arXiv 2307.03864, section 4.2; Bakker 2001.
    """

    corridor_length: int = 10
    active: bool = False
    late_penalty: bool = True

    def __post_init__(self):
        """Check the fields."""
        # An episode takes up to two steps more.
        check_integer("TMaze.corridor_length", self.corridor_length, 1, LARGEST - 2)

    def _observe(self, state):
        at_oracle, at_junction = state.position == 0, state.position == self.corridor_length
        told = jnp.where(at_oracle, state.goal, 0)
        seen = told, at_oracle, ~at_oracle & ~at_junction, at_junction
        return jnp.stack([jnp.asarray(part, jnp.float32) for part in seen])

    def begin(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return an episode's first observation and its state."""
        goal = jnp.where(jax.random.bernoulli(key), 1, -1)
        state = TMazeState(goal, jnp.int32(1 if self.active else 0), jnp.int32(0))
        return self._observe(state), state

    def advance(self, key: Array, state: PyTree, action: Array, params: Any) -> Advance:
        """Act once within an episode."""
        detour = 1 if self.active else 0
        move = jnp.select([action == RIGHT, action == LEFT], [1, -1], 0)
        position = jnp.clip(state.position + move, 0, self.corridor_length)
        time = state.time + 1
        turn = jnp.select([action == UP, action == DOWN], [1, -1], 0)
        turns = (state.position == self.corridor_length) & (turn != 0)
        reward = jnp.where(turns & (turn == state.goal), 1.0, 0.0)
        if self.late_penalty:
            behind = ~turns & (position < jnp.minimum(time - detour, self.corridor_length))
            reward = jnp.where(behind, -1 / self.corridor_length, reward)
        state = TMazeState(state.goal, position, time)
        ended = turns | (time > self.corridor_length + detour)
        return self._observe(state), state, reward, ended, jnp.bool_(False)

    def render_text(self, state: PyTree, params: Any) -> str:
        """Return the corridor: A the agent, O the oracle, G the right turn."""
        places = ["O", *"·" * self.corridor_length]
        places[int(state.position)] = "A"
        turns = {True: "G", False: "·"}
        indent = " " * self.corridor_length
        up, down = (indent + turns[int(state.goal) == way] for way in (1, -1))
        return "\n".join([up, "".join(places), down])

    def observation_space(self, params: Any) -> Space:
        """Return the space of observations."""
        return Box(-1.0, 1.0, (4,))

    def action_space(self, params: Any) -> Space:
        """Return right, up, left and down."""
        return Discrete(4)
