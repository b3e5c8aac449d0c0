"""Cards, drawn from decks without putting them back."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from memorax.environments.choices import MOST_CHOICES
from memorax.validation import check_whole

CARDS_PER_DECK = 52
MOST_DECKS = MOST_CHOICES // CARDS_PER_DECK
"""Of each task: one of them chooses among all cards."""
KINDS = {"colors": 2, "suits": 4, "ranks": 13}
"""What cards can be told apart by, and how many of each there are."""
SUITS = KINDS["suits"]
RANKS = KINDS["ranks"]


def check_decks(field: str, value: Any) -> None:
    """Raise ``ValueError`` if ``value`` is not a whole number from 1 to ``MOST_DECKS``."""
    check_whole(field, value, 1, MOST_DECKS)


def check_kind(field: str, value: Any) -> None:
    """Raise ``ValueError`` if ``value`` is nothing that cards can be told apart by."""
    if value not in KINDS:
        raise ValueError(f"{field} must be one of {', '.join(KINDS)}, got {value!r}")


def full_decks(num_decks: int, kinds: int) -> Int[Array, "kinds"]:
    """Return how many cards of each kind whole decks have."""
    return jnp.full(kinds, num_decks * CARDS_PER_DECK // kinds, jnp.int32)


def draw_card(key: Array, remaining: PyTree) -> tuple[Array, Array]:
    """Draw a card, given how many of each kind remain, and return its kind and what remains.

    That is the order of a shuffled deck, drawn as it is needed, so that no deck has to be shuffled
    wherever an episode may begin.
    """
    card = draw_in_proportion(key, remaining)
    # Compared rather than indexed: XLA scatters one copy after the other on CPU.
    return card, remaining - (jnp.arange(remaining.size) == card)


def draw_in_proportion(key: Array, weights: PyTree) -> Array:
    """Draw an index as often as its weight, a whole number, says; one random number is enough.

    Where all weights are zero, the last index is returned.
    """
    bounds = jnp.cumsum(weights)
    drawn = jax.random.randint(key, (), 0, bounds[-1])
    index = jnp.sum(bounds <= drawn, dtype=jnp.int32)
    return jnp.minimum(index, bounds.size - 1)


def find_in_proportion(number: Array, weights: PyTree) -> tuple[Array, Array]:
    """Return the index that a whole number below the sum of all weights falls on.

    Returns:
        The index, and how far into its weight the number is.
    """
    below = jnp.cumsum(weights) <= number
    return below.sum(), number - jnp.where(below, weights, 0).sum()
