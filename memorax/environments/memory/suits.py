"""Suits of cards, drawn from decks without putting them back."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

SUITS = 4
CARDS_PER_DECK = 52


def full_decks(num_decks: int) -> Int[Array, "4"]:
    """Return how many cards of each suit whole decks have."""
    return jnp.full(SUITS, num_decks * CARDS_PER_DECK // SUITS, jnp.int32)


def draw_suit(key: Array, remaining: PyTree) -> tuple[Array, Array]:
    """Draw a card, given how many of each suit remain, and return its suit and what remains.

    That is the order of a shuffled deck, drawn as it is needed, so that no deck has to be shuffled
    wherever an episode may begin.
    """
    suit = jax.random.categorical(key, jnp.log(remaining)).astype(jnp.int32)
    return suit, remaining.at[suit].add(-1)
