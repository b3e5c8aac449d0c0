"""The card tasks, step by step beside those of the popgym package."""

import importlib

import jax.numpy as jnp
import numpy as np
import pytest

from memorax import environments
from tests.environments.memory.playing import STEPS, play, returns

MODULES = {"RepeatFirst": "repeat_first", "RepeatPrevious": "repeat_previous"}
LEVELS = ("Easy", "Medium", "Hard")


class Order:
    """Stands for a random generator and shuffles a deck into a given order of suits."""

    def __init__(self, suits, deck):
        by_suit = [list(np.flatnonzero(deck.suits_idx == suit)) for suit in range(4)]
        cards = [by_suit[suit].pop() for suit in suits]
        unseen = [card for cards_of_suit in by_suit for card in cards_of_suit]
        # Cards are dealt from the end.
        self._cards = np.array(unseen[::-1] + cards[::-1])

    def shuffle(self, cards):
        cards[:] = self._cards


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("task", MODULES)
def test_observations_rewards_and_ends_are_popgyms(task, level):
    name = task + level
    theirs = getattr(importlib.import_module(f"popgym.envs.{MODULES[task]}"), name)()
    first, shown, final, action, reward, terminated, truncated = play(name, STEPS)
    assert not truncated.any()
    starts, told = [0, *(np.flatnonzero(terminated[:-1]) + 1)], []
    for start, stop in zip(starts, [*starts[1:], STEPS], strict=True):
        seen = first if start == 0 else shown[start - 1]
        theirs._np_random = Order([seen, *final[start:stop]], theirs.deck)
        observation, _ = theirs.reset()
        assert observation == seen
        for step in range(start, stop):
            seen, their_reward, their_end, their_cut, _ = theirs.step(action[step])
            assert not their_cut
            told.append((seen, their_reward, their_end))
    observation, their_reward, their_end = map(np.array, zip(*told, strict=True))
    np.testing.assert_array_equal(final, observation)
    np.testing.assert_allclose(reward, their_reward, rtol=1e-6)
    np.testing.assert_array_equal(terminated, their_end)


def test_suits_are_drawn_as_from_a_shuffled_deck():
    first, shown, final, *_ = play("RepeatFirstEasy", 51 * 400)
    firsts = np.concatenate([[first], shown[50:-1:51]])
    decks = np.concatenate([firsts[:, None], final.reshape(400, 51)], axis=1)
    assert (np.sort(decks) == np.repeat(np.arange(4), 13)).all()
    # Any place is as likely to hold any suit, also given the one before it: 12 of 51 are the same.
    for place in (0, 1, 25, 51):
        assert (abs(np.bincount(decks[:, place], minlength=4) - 100) < 35).all()
    assert abs((decks[:, 1:] == decks[:, :-1]).mean() - 12 / 51) < 0.01


def test_who_remembers_the_first_card_earns_1_and_who_names_the_one_in_sight_does_not():
    def remember(key, observation, memory):
        memory = jnp.where(memory == 0, observation + 1.0, memory)
        return memory, (memory - 1).astype(jnp.int32)

    def repeat(key, observation, memory):
        return memory, observation

    def mean_return(choose):
        *_, reward, terminated, _ = play("RepeatFirstEasy", 51 * 20, choose)
        return returns(reward, terminated).mean()

    np.testing.assert_allclose(mean_return(remember), 1, rtol=1e-5)
    # Right at first, and then as often as cards are alike: 12 of 51.
    assert abs(mean_return(repeat) - (2 * (1 + 50 * 12 / 51) / 51 - 1)) < 0.1


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("RepeatFirstEasy", {"num_decks": 0}, "RepeatFirst.num_decks must be an integer"),
        ("RepeatPreviousEasy", {"k": 52}, "RepeatPrevious.k must be an integer from 1 to 51"),
        ("RepeatFirstEasy", {"decks": 2}, "the closest are: num_decks"),
        ("RepeatFrst", {}, "the closest are: RepeatFirst"),
    ],
)
def test_what_is_no_task_is_refused(name, params, words):
    with pytest.raises(ValueError, match=words):
        environments.make(f"memory::{name}", **params)
