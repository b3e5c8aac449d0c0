"""Copy the marked symbols of a sequence, which noise lies between."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, PyTree

from memorax.environments.memory.cards import pick_card, whole_below
from memorax.environments.memory.task import Advance, Task
from memorax.environments.spaces import MOST_CHOICES, Discrete, MultiDiscrete, Space
from memorax.validation import check_integer

NOISE, MARKED, RECALL = range(3)


@struct.dataclass
class SelectiveCopyingState:
    """The state of ``SelectiveCopying``.

    Attributes:
        symbol: The symbol in sight, 0 while recalling.
        mode: Whether it is noise, 0, or marked, 1, or symbols are recalled, 2.
        marked: The symbols to recall, of shape (num_marked,); -1 before they were shown.
        remaining: How many symbols that are noise and marked are still to be shown, of shape (2,).
        recalled: How many symbols have been recalled.
    """

    symbol: PyTree
    mode: PyTree
    marked: PyTree
    remaining: PyTree
    recalled: PyTree


@dataclass(frozen=True)
class SelectiveCopying(Task):
    """Symbols are shown, some of them marked; then the marked ones are named in their order.

    Observations are (a symbol, 0 for noise, 1 for a marked symbol, 2 while recalling, when the
    symbol is 0). Noise and marked symbols are drawn from the same symbols and come in random order.
    While recalling, each action names the next marked symbol: a right one earns 1 / num_marked, a
    wrong one loses as much. Earlier actions have no effect. The episode terminates with the last
    symbol.

    A memory whose decay and input do not depend on what it reads, such as the LRU in a single
    layer, cannot leave out the noise; one with gates can.

    Attributes:
        num_symbols: Number of symbols, from 2.
        num_marked: How many symbols to copy.
        num_noise: How many other symbols are shown between them.

    Raises:
        ValueError: If a number is out of its range.

    Source: Gu and Dao 2023, "Mamba", arXiv 2312.00752, section 4.1; there noise is one symbol of
    its own.
    """

    num_symbols: int = 4
    num_marked: int = 4
    num_noise: int = 12

    def __post_init__(self):
        """Check the fields."""
        check_integer("SelectiveCopying.num_symbols", self.num_symbols, 2, MOST_CHOICES)
        check_integer("SelectiveCopying.num_marked", self.num_marked, 1, MOST_CHOICES)
        check_integer("SelectiveCopying.num_noise", self.num_noise, 0, MOST_CHOICES)

    @property
    def best_return(self) -> float:
        """The return of a policy that remembers the marked symbols in their order: 1."""
        return 1.0

    @property
    def memoryless_return(self) -> float:
        """The mean return of every policy without memory: 2 / num_symbols - 1."""
        return 2 / self.num_symbols - 1

    def begin(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return an episode's first observation and its state."""
        marked = jnp.full(self.num_marked, -1, jnp.int32)
        remaining = jnp.array([self.num_noise, self.num_marked], jnp.int32)
        return self._show_next(key, marked, remaining, jnp.int32(0))

    def advance(self, key: Array, state: PyTree, action: Array, params: Any) -> Advance:
        """Act once within an episode."""
        worth = 1 / self.num_marked
        is_recall = state.mode == RECALL
        is_right = action == state.marked[state.recalled]
        reward = jnp.where(is_recall, jnp.where(is_right, worth, -worth), 0.0)
        last = self.num_marked - 1
        ended = is_recall & (state.recalled == last)
        # The step after the last one is not shown as a step of its own.
        recalled = jnp.minimum(state.recalled + is_recall, last)
        observation, state = self._show_next(key, state.marked, state.remaining, recalled)
        return observation, state, reward, ended, jnp.bool_(False)

    def _show_next(self, key, marked, remaining, recalled):
        """Show a symbol or, once all have been shown, let one be recalled."""
        numbers = jax.random.bits(key, (2,), jnp.uint32)
        is_recall = remaining.sum() == 0
        drawn, left = pick_card(numbers[0], remaining)
        mode = jnp.where(is_recall, RECALL, drawn)
        symbol = jnp.where(is_recall, 0, whole_below(self.num_symbols, numbers[1]))
        place = self.num_marked - remaining[MARKED]
        is_next = (mode == MARKED) & (jnp.arange(self.num_marked) == place)
        marked = jnp.where(is_next, symbol, marked)
        remaining = jnp.where(is_recall, remaining, left)
        state = SelectiveCopyingState(symbol, mode, marked, remaining, recalled)
        return jnp.stack([symbol, mode]), state

    def render_text(self, state: PyTree, params: Any) -> str:
        """Return the marked symbols so far, with a mark at the one to recall, and what is shown."""
        symbols = ["·" if symbol < 0 else str(symbol) for symbol in state.marked]
        if state.mode == RECALL:
            place = int(state.recalled)
            symbols[place] = f"({symbols[place]})"
            return " ".join(symbols) + "\nrecalls"
        shown = "noise" if state.mode == NOISE else "marked"
        return " ".join(symbols) + f"\n{shown}: {int(state.symbol)}"

    def observation_space(self, params: Any) -> Space:
        """Return the symbols, and whether they are noise, marked or recalled."""
        return MultiDiscrete(0, np.array([self.num_symbols - 1, RECALL]), (2,))

    def action_space(self, params: Any) -> Space:
        """Return the symbols."""
        return Discrete(self.num_symbols)
