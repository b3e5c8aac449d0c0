"""Name the product of all elements of a group that have been shown."""

import functools
import itertools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Int, PyTree

from memorax.environments.memory.cards import whole_below
from memorax.environments.memory.task import Advance, Task
from memorax.environments.spaces import Discrete, Space
from memorax.validation import check_positive

GROUPS = {"Z2": (2, False), "S3": (3, False), "A5": (5, True)}
"""Each group as permutations: of how many items, and whether of the even ones alone."""


@functools.cache
def permutations(group: str) -> Int[np.ndarray, "elements items"]:
    """Return a group's elements as permutations in lexicographic order, the identity first."""
    items, is_even = GROUPS[group]
    elements = np.array(list(itertools.permutations(range(items))), np.int32)
    if not is_even:
        return elements
    inversions = np.triu(elements[:, :, None] > elements[:, None, :]).sum((1, 2))
    return elements[inversions % 2 == 0]


@functools.cache
def products(group: str) -> Int[np.ndarray, "elements elements"]:
    """Return the index of each product: element [i, j] permutes by i first and then by j."""
    elements = permutations(group)
    index = {tuple(element): number for number, element in enumerate(elements)}
    table = [[index[tuple(second[first])] for second in elements] for first in elements]
    return np.array(table, np.int32)


@struct.dataclass
class WordProblemState:
    """The state of ``WordProblem``.

    Attributes:
        element: The element in sight.
        product: The product of all elements shown, that one among them.
        time: Steps since the episode began.
    """

    element: PyTree
    product: PyTree
    time: PyTree


@dataclass(frozen=True)
class WordProblem(Task):
    """Elements of a group are shown one by one; each action names the product of all so far.

    Elements are drawn evenly and numbered as in ``permutations(group)``. The product permutes by
    the first element, then by the second, and so on. Of ``"Z2"`` it is the parity of the bits
    shown; of ``"S3"``, the permutations of three items, it depends on their order; ``"A5"``, the 60
    even permutations of five items, is the smallest group that is not solvable. A right action
    earns 1 / episode_length, a wrong one loses as much. The episode terminates with the last one.

    A memory has to update a state by what it reads rather than look something up. Decays between 0
    and 1 cannot do that for parity; S3 needs updates that do not commute.

    Attributes:
        group: ``"Z2"``, ``"S3"`` or ``"A5"``.
        episode_length: Elements to multiply.

    Raises:
        ValueError: If there is no such group, or ``episode_length`` is not positive.

    Source: Merrill et al. 2024, "The illusion of state in state-space models", arXiv 2404.08819;
    Grazzi et al. 2024, "Unlocking state-tracking in linear RNNs through negative eigenvalues",
    arXiv 2411.12537.
    """

    group: str = "Z2"
    episode_length: int = 32

    def __post_init__(self):
        """Check the fields."""
        if self.group not in GROUPS:
            allowed = ", ".join(GROUPS)
            raise ValueError(f"WordProblem.group must be one of {allowed}, got {self.group!r}")
        check_positive("WordProblem.episode_length", self.episode_length)

    @property
    def num_elements(self) -> int:
        """Number of elements of the group."""
        return len(permutations(self.group))

    @property
    def best_return(self) -> float:
        """The return of a policy that keeps the product: 1."""
        return 1.0

    @property
    def memoryless_return(self) -> float:
        """The best mean return of a policy without memory.

        It names the element in sight: right at the first step, and with probability
        1 / num_elements at every other, since the product of the earlier ones may be any.
        """
        right = 1 + (self.episode_length - 1) / self.num_elements
        return 2 * right / self.episode_length - 1

    def begin(self, key: Array, params: Any) -> tuple[PyTree, PyTree]:
        """Return an episode's first observation and its state."""
        element = whole_below(self.num_elements, jax.random.bits(key, dtype=jnp.uint32))
        return element, WordProblemState(element, element, jnp.int32(0))

    def advance(self, key: Array, state: PyTree, action: Array, params: Any) -> Advance:
        """Act once within an episode."""
        worth = 1 / self.episode_length
        reward = jnp.where(action == state.product, worth, -worth)
        element = whole_below(self.num_elements, jax.random.bits(key, dtype=jnp.uint32))
        product = jnp.asarray(products(self.group))[state.product, element]
        time = state.time + 1
        ended = time == self.episode_length
        return (
            element,
            WordProblemState(element, product, time),
            reward,
            ended,
            jnp.bool_(False),
        )

    def render_text(self, state: PyTree, params: Any) -> str:
        """Return the element in sight and the product, each with its permutation."""
        elements = permutations(self.group)

        def line(name, element):
            return f"{name:<7} {int(element)}: " + " ".join(map(str, elements[int(element)]))

        return "\n".join([line("element", state.element), line("product", state.product)])

    def observation_space(self, params: Any) -> Space:
        """Return the group's elements."""
        return Discrete(self.num_elements)

    def action_space(self, params: Any) -> Space:
        """Return the group's elements."""
        return Discrete(self.num_elements)
