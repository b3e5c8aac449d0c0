"""Find the arm that pays most."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, PyTree

from memorax.environments.memory.task import Advance, Task
from memorax.environments.spaces import MOST_CHOICES, Discrete, Space
from memorax.validation import check_integer, check_positive


@struct.dataclass
class MultiarmedBanditState:
    """The state of ``MultiarmedBandit``.

    Attributes:
        chances: Probability that each arm pays.
        time: Steps since the episode began.
    """

    chances: PyTree
    time: PyTree


@dataclass(frozen=True)
class MultiarmedBandit(Task):
    """Each action pulls an arm, which pays or not; each episode's arms are new.

    Observations show whether the last pull paid. One that pays earns 1 / steps of an episode, one
    that does not loses as much. What paid can only be known with the previous action
    (``memorax train --previous-inputs``).

    Attributes:
        num_bandits: Arms, up to 65,536.
        episode_length: Steps of an episode, which a time limit ends.

    Raises:
        ValueError: If a number is out of its range.

    Source: Morad et al. 2023, "POPGym", arXiv 2303.01859; sizes as in its package, version 1.0.7.
    """

    num_bandits: int = 10
    episode_length: int = 200

    def __post_init__(self):
        """Check the fields."""
        check_integer("MultiarmedBandit.num_bandits", self.num_bandits, 1, MOST_CHOICES)
        check_positive("MultiarmedBandit.episode_length", self.episode_length)

    def begin(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return an episode's first observation and its state."""
        chances = jax.random.uniform(key, (self.num_bandits,))
        return jnp.int32(0), MultiarmedBanditState(chances, jnp.int32(0))

    def advance(self, key: Array, state: PyTree, action: Array, params: Any) -> Advance:
        """Act once within an episode."""
        paid = jax.random.uniform(key) < state.chances[action]
        worth = 1 / self.episode_length
        reward = jnp.where(paid, worth, -worth)
        time = state.time + 1
        state = MultiarmedBanditState(state.chances, time)
        ended = time >= self.episode_length
        return paid.astype(jnp.int32), state, reward, jnp.bool_(False), ended

    def observation_space(self, params: Any) -> Space:
        """Return whether the last pull paid."""
        return Discrete(2)

    def action_space(self, params: Any) -> Space:
        """Return the arms."""
        return Discrete(self.num_bandits)
