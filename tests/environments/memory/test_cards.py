"""Tests of drawing cards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare

from memorax.environments.memory.cards import draw_card, pick_card, whole_below

LAST = 2**32 - 1


@pytest.mark.parametrize("remaining", [[13, 13, 13, 13], [0, 3, 0, 1], [5, 0, 0, 0], [0, 0, 7]])
def test_each_number_picks_the_card_at_its_place_in_the_deck(remaining):
    deck = np.repeat(np.arange(len(remaining)), remaining)
    numbers = np.array([*range(60), *range(LAST - 60, LAST + 1)], np.uint32)
    cards, left = jax.vmap(pick_card, (0, None))(jnp.array(numbers), jnp.array(remaining))
    np.testing.assert_array_equal(cards, deck[numbers % len(deck)])
    np.testing.assert_array_equal(
        left, np.array(remaining) - np.eye(len(remaining), dtype=int)[cards]
    )


def test_the_last_kind_is_drawn_where_no_card_remains():
    for number in (0, 1, LAST):
        assert pick_card(jnp.uint32(number), jnp.zeros(4, jnp.int32))[0] == 3


def test_cards_are_drawn_as_often_as_they_remain():
    keys = jax.random.split(jax.random.key(0), 5_000)
    cards, _ = jax.vmap(draw_card, (0, None))(keys, jnp.array([1, 7, 0, 12]))
    times = np.bincount(np.asarray(cards), minlength=4)
    assert times[2] == 0
    assert chisquare(times[[0, 1, 3]], 250 * np.array([1, 7, 12])).pvalue > 1e-3


@pytest.mark.parametrize("bound", [1, 52, 65_520])
def test_whole_numbers_below_a_bound_are_as_likely(bound):
    numbers = np.append(jax.random.bits(jax.random.key(1), (10_000,), jnp.uint32), np.uint32(LAST))
    drawn = jax.vmap(whole_below, (None, 0))(jnp.int32(bound), numbers)
    np.testing.assert_array_equal(drawn, numbers % bound)
    assert abs(drawn.mean() - (bound - 1) / 2) <= bound / 100


def test_nothing_is_drawn_below_zero_but_zero():
    assert whole_below(jnp.int32(0), jnp.uint32(LAST)) == 0
