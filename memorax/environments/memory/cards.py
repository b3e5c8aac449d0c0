"""Cards, drawn from decks without putting them back."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree, UInt32

from memorax.environments.spaces import MOST_CHOICES
from memorax.validation import check_integer

CARDS_PER_DECK = 52
MOST_DECKS = MOST_CHOICES // CARDS_PER_DECK
"""Of each task: one of them chooses among all cards."""
KINDS = {"colors": 2, "suits": 4, "ranks": 13}
"""Kinds of cards, and the number of each."""
SUITS = KINDS["suits"]
RANKS = KINDS["ranks"]


def check_decks(field: str, value: Any) -> None:
    """Raise ``ValueError`` if ``value`` is not an integer from 1 to ``MOST_DECKS``."""
    check_integer(field, value, 1, MOST_DECKS)


def check_kind(field: str, value: Any) -> None:
    """Raise ``ValueError`` if ``value`` is not a kind of cards."""
    if value not in KINDS:
        raise ValueError(f"{field} must be one of {', '.join(KINDS)}, got {value!r}")


def full_decks(num_decks: int, kinds: int) -> Int[Array, "kinds"]:
    """Return how many cards of each kind whole decks have."""
    return jnp.full(kinds, num_decks * CARDS_PER_DECK // kinds, jnp.int32)


def draw_card(key: Array, remaining: PyTree) -> tuple[Array, Array]:
    """Draw a card, given how many of each kind remain, and return its kind and what remains."""
    return pick_card(jax.random.bits(key, dtype=jnp.uint32), remaining)


def pick_card(number: UInt32[Array, ""], remaining: PyTree) -> tuple[Array, Array]:
    """Draw a card as ``draw_card`` does, by a random number of 32 bits.

    That is the order of a shuffled deck, drawn as it is needed, so that no deck has to be shuffled
    wherever an episode may begin. Where no card remains, the last kind is drawn.
    """
    place = whole_below(remaining.sum(), number)
    card = jnp.sum(jnp.cumsum(remaining) <= place, dtype=jnp.int32)
    card = jnp.minimum(card, remaining.size - 1)
    # Compared rather than indexed: XLA scatters one copy after the other on CPU.
    return card, remaining - (jnp.arange(remaining.size) == card)


def whole_below(bound: Int[Array, ""] | int, number: UInt32[Array, ""]) -> Int[Array, ""]:
    """Return an integer below a bound, or 0 where that is 0, by a random one of 32 bits.

    ``jax.random.randint`` calls the generator three times, and one call costs as much as the rest
    of a step. Tasks draw from fewer than 2**17, the places of a ship on the widest board, so that
    no number is more likely than another by more than 2**17 / 2**32, or 3.1e-5, of its chance.
    """
    return (number % jnp.maximum(bound, 1).astype(jnp.uint32)).astype(jnp.int32)


def find_in_proportion(number: Array, weights: PyTree) -> tuple[Array, Array]:
    """Return the index that an integer below the sum of all weights falls on.

    Returns:
        The index, and how far into its weight the number is.
    """
    below = jnp.cumsum(weights) <= number
    return below.sum(), number - jnp.where(below, weights, 0).sum()
