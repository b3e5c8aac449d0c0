"""The tasks that tell memories apart: what is right in them, and what each kind of agent earns."""

import itertools
from collections import Counter

import jax.numpy as jnp
import numpy as np
import pytest

from memorax import environments
from memorax.environments import memory
from memorax.environments.memory.word_problem import permutations
from tests.environments.memory.playing import play, returns

TASKS = ("AssociativeRecall", "SelectiveCopying", "WordProblem")


def episodes(name, num_episodes, length, **params):
    """Return observations, actions and rewards by episode, of random actions."""
    first, shown, _, action, reward, terminated, _ = play(name, num_episodes * length, **params)
    np.testing.assert_array_equal(np.flatnonzero(terminated) % length, length - 1)
    observation = np.concatenate([first[None], shown[:-1]])
    return [
        array.reshape(num_episodes, length, *array.shape[1:])
        for array in (observation, action, reward)
    ]


def right_answer_to_the_key(seen):
    """Yield what AssociativeRecall asks for; None while it writes."""
    values = {}
    for key, value in seen:
        is_query = value == 4
        yield values[key] if is_query else None
        if not is_query:
            values[key] = value


def right_copy(seen):
    marked = iter([symbol for symbol, mode in seen if mode == 1])
    for _, mode in seen:
        yield next(marked) if mode == 2 else None


def right_parity(seen):
    return (sum(seen[: time + 1]) % 2 for time in range(len(seen)))


def right_permutation(seen):
    """Multiply permutation matrices, which says nothing of tables."""
    product = np.eye(3)
    matrices = [np.eye(3)[list(order)] for order in itertools.permutations(range(3))]
    for element in seen:
        product = product @ matrices[element]
        yield next(i for i, matrix in enumerate(matrices) if (matrix == product).all())


@pytest.mark.parametrize(
    ("name", "length", "answers", "worth"),
    [
        ("AssociativeRecallEasy", 32, right_answer_to_the_key, 1 / 16),
        ("SelectiveCopyingEasy", 20, right_copy, 1 / 4),
        ("WordProblemEasy", 32, right_parity, 1 / 32),
        ("WordProblemMedium", 32, right_permutation, 1 / 32),
    ],
)
def test_the_right_answer_alone_is_rewarded(name, length, answers, worth):
    for observation, action, reward in zip(*episodes(name, 60, length), strict=True):
        right = np.array([-1 if a is None else a for a in answers(observation.tolist())])
        expected = np.where(right == -1, 0.0, np.where(action == right, worth, -worth))
        np.testing.assert_allclose(reward, expected, rtol=1e-6)
        # Who answers right each time earns the best return.
        env, _ = environments.make(f"memory::{name}")
        assert (right != -1).sum() * worth == pytest.approx(env.best_return)


def no_memory(answer):
    def choose(key, observation, memory):
        return memory, jnp.asarray(answer(observation), jnp.int32)

    return choose


@pytest.mark.parametrize(
    ("name", "length", "answer"),
    [
        ("AssociativeRecallEasy", 32, no_memory(lambda observation: observation[0])),
        ("SelectiveCopyingEasy", 20, no_memory(lambda observation: 1)),
        ("WordProblemEasy", 32, no_memory(lambda element: element)),
        ("WordProblemMedium", 32, no_memory(lambda element: element)),
    ],
)
def test_who_has_no_memory_earns_what_the_closed_form_says(name, length, answer):
    env, _ = environments.make(f"memory::{name}")
    *_, reward, terminated, _ = play(name, 600 * length, answer)
    earned = returns(reward, terminated)
    assert abs(earned.mean() - env.memoryless_return) < 4 * earned.std() / np.sqrt(600)


@pytest.mark.parametrize("task", TASKS)
def test_three_sizes_are_ever_harder_for_who_has_no_memory(task):
    levels = [
        environments.make(f"memory::{task}{level}")[0] for level in ("Easy", "Medium", "Hard")
    ]
    ceilings = [env.memoryless_return for env in levels]
    assert ceilings == sorted(ceilings, reverse=True)
    assert -1 <= ceilings[-1] < ceilings[0] < 0.1
    assert {env.best_return for env in levels} == {1}


def test_every_key_is_written_and_asked_for_as_often_as_the_other_and_seldom_right_away():
    observation, *_ = episodes("AssociativeRecallEasy", 60, 32)
    keys, is_query = observation[..., 0], observation[..., 1] == 4
    assert not is_query[:, :16].any()
    assert is_query[:, 16:].all()
    for half in (keys[:, :16], keys[:, 16:]):
        assert (np.sort(half) == np.repeat(np.arange(4), 4)).all()
    # In any order: each key is as likely at each step.
    assert (abs((keys == 0).mean(0) - 0.25) < 0.25).all()


def test_who_counts_the_values_of_a_key_but_not_their_order_earns_a_sixteenth():
    observation, *_ = episodes("AssociativeRecallEasy", 60, 32)
    is_right = []
    for seen in observation[:, :16]:
        for key in range(4):
            values = seen[seen[:, 0] == key, 1].tolist()
            is_right.append(Counter(values).most_common(1)[0][0] == values[-1])
    # Of four random values, the most frequent comes 2.125 times, and is as often the last of four.
    expected = np.mean(
        [max(Counter(word).values()) for word in itertools.product(range(4), repeat=4)]
    )
    assert 2 * expected / 4 - 1 == 1 / 16
    assert abs(np.mean(is_right) - expected / 4) < 4 * 0.5 / np.sqrt(len(is_right))


def test_marked_symbols_are_spread_among_the_noise():
    observation, *_ = episodes("SelectiveCopyingEasy", 400, 20)
    modes = observation[..., 1]
    assert (modes[:, 16:] == 2).all()
    assert ((modes == 1).sum(1) == 4).all()
    assert (abs((modes[:, :16] == 1).mean(0) - 0.25) < 0.1).all()
    # A symbol tells nothing about whether it is marked.
    symbols = observation[:, :16, 0]
    for symbol in range(4):
        assert abs((modes[:, :16] == 1)[symbols == symbol].mean() - 0.25) < 0.04


@pytest.mark.parametrize(("group", "order"), [("Z2", 2), ("S3", 6), ("A5", 60)])
def test_products_are_those_of_a_group(group, order):
    elements = permutations(group)
    assert len({tuple(element) for element in elements}) == order
    table = memory.word_problem.products(group)
    everyone = np.arange(order)
    np.testing.assert_array_equal(table[0], everyone)
    np.testing.assert_array_equal(table[:, 0], everyone)
    for line in (table, table.T):
        assert (np.sort(line, axis=1) == everyone).all()
    np.testing.assert_array_equal(table[table], table[:, table])
    # The group does not commute, beside the parity.
    assert (table == table.T).all() == (group == "Z2")


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("AssociativeRecall", {"num_keys": 0}, "num_keys must be .* 1 to 65536, got 0"),
        ("AssociativeRecall", {"num_values": 1}, "num_values must be .* 2 to 65535, got 1"),
        ("AssociativeRecall", {"num_writes": 16_385}, "num_writes must be .* 1 to 16384, got"),
        ("AssociativeRecall", {"num_queries": 0}, "num_queries must be .* 1 to 16384, got 0"),
        ("SelectiveCopying", {"num_symbols": 1}, "num_symbols must be .* 2 to 65536, got 1"),
        ("SelectiveCopying", {"num_marked": 0}, "num_marked must be .* 1 to 65536, got 0"),
        ("SelectiveCopying", {"num_noise": -1}, "num_noise must be .* 0 to 65536, got -1"),
        ("WordProblem", {"group": "S4"}, "group must be one of Z2, S3, A5, got 'S4'"),
        ("WordProblem", {"episode_length": 0}, "episode_length must be .* at least 1, got 0"),
    ],
)
def test_sizes_that_make_no_task_are_refused(name, params, words):
    with pytest.raises(ValueError, match=rf"{name}\.{words}"):
        environments.make(f"memory::{name}Easy", **params)
