"""What ``memorax environments`` says of our tasks is what they are."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import gammaln

from memorax import environments
from memorax.catalog.memory_task_facts import FACTS, facts_of
from memorax.catalog.memory_tasks import MEMORY_TASKS
from memorax.environments import Discrete, MultiDiscrete
from memorax.experiments.cli.command_line import main
from memorax.experiments.cli.environments import task_lines
from tests.environments.memory.playing import play, play_with_states, returns

# Their length is the same whatever is done, or random play takes all the time that there is.
FULL_LENGTH = {
    "AssociativeRecallEasy": {"num_writes": 2},
    "AutoencodeEasy": {},
    "BattleshipEasy": {},
    "ConcentrationEasy": {},
    "CountRecallEasy": {},
    "HigherLowerEasy": {},
    "KeyToDoor": {"steps_with_doors": 1},
    "LabyrinthExploreEasy": {"episode_length": 20},
    "MultiarmedBanditEasy": {"episode_length": 10},
    "RepeatFirstEasy": {},
    "SelectiveCopyingEasy": {},
    "StatelessPendulumEasy": {"max_episode_length": 10},
    "WordProblemMedium": {},
}


def described(space):
    if isinstance(space, Discrete):
        return f"1 of {space.n}"
    # A MultiDiscrete is a Box of integers, too.
    kind = "categories" if isinstance(space, MultiDiscrete) else "numbers"
    return f"{space.shape[0]} {kind}"


@pytest.mark.parametrize("name", MEMORY_TASKS)
def test_fields_spaces_and_returns_are_those_of_the_task(name):
    env, params = environments.make(f"memory::{name}")
    facts = facts_of(name)
    assert facts.fields == dataclasses.asdict(env)
    assert facts.observation == described(env.observation_space(params))
    actions = env.action_space(params)
    assert facts.actions == (f"{actions.n}" if isinstance(actions, Discrete) else "1 number")
    if hasattr(env, "best_return"):
        assert facts.best == env.best_return
        assert facts.without_memory == env.memoryless_return


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", FULL_LENGTH)
def test_the_longest_episode_has_as_many_steps(name):
    fields = {**facts_of(name).fields, **FULL_LENGTH[name]}
    sized = type("Sized", (), fields)
    steps = FACTS[MEMORY_TASKS[name].kind].steps(sized)
    *_, terminated, truncated = play(name, 3 * steps, **FULL_LENGTH[name])
    ends = np.flatnonzero(terminated | truncated)
    assert (np.diff(ends, prepend=-1) == steps).all()


def name_what_is_seen(key, observation, memory):
    return memory, observation


def name_another_suit(key, observation, memory):
    return memory, (observation + 1) % 4


def name_the_last_card(key, observation, memory):
    return memory, observation[1]


def guess_the_likelier(key, observation, memory):
    return memory, jnp.where(observation < 6, 0, 1)


@pytest.mark.parametrize(
    ("name", "choose"),
    [
        ("RepeatFirstEasy", name_what_is_seen),
        ("RepeatPreviousEasy", name_another_suit),
        ("AutoencodeEasy", name_the_last_card),
        ("HigherLowerEasy", guess_the_likelier),
    ],
)
def test_a_policy_of_the_latest_observation_reaches_what_is_said_and_no_other_more(name, choose):
    """The best of all such policies is counted: the mean reward of each action where it is seen."""
    env, _ = environments.make(f"memory::{name}")
    facts = facts_of(name)
    num_episodes, num_actions = 400, env.action_space(None).n
    *_, rewards, terminated, _ = play(name, num_episodes * facts.steps, choose)
    reached = returns(rewards, terminated)
    assert reached.mean() == pytest.approx(facts.without_memory, abs=4 * reached.std() / 20)
    first, observations, _, actions, rewards, *_ = play(name, num_episodes * facts.steps, seed=1)
    seen = np.concatenate([np.atleast_2d(first), observations.reshape(len(rewards), -1)])[:-1]
    best = 0.0
    for kind in np.unique(seen, axis=0):
        here = (seen == kind).all(axis=1)
        means = [rewards[here & (actions == action)].mean() for action in range(num_actions)]
        best += max(means) * here.sum() / num_episodes
    # The greatest of noisy means is a little too great.
    assert best == pytest.approx(facts.without_memory, abs=0.08)


def counting_cards(decks):
    """Return the mean of |higher - lower| / left over the cards in sight and those left."""
    suits, cards, total = 4 * decks, 52 * decks, 0.0

    def log_choices(of, number):
        return gammaln(of + 1) - gammaln(number + 1) - gammaln(of - number + 1)

    for rank in range(13):
        higher, lower, same = suits * (12 - rank), suits * rank, suits - 1
        for left in range(1, cards):
            up, down = np.arange(min(higher, left) + 1)[:, None], np.arange(min(lower, left) + 1)
            equal = left - up - down
            can_be = (equal >= 0) & (equal <= same)
            choices = log_choices(higher, up) + log_choices(lower, down)
            choices = choices + log_choices(same, np.where(can_be, equal, 0))
            chance = np.where(can_be, np.exp(choices - log_choices(cards - 1, left)), 0.0)
            total += (chance * abs(up - down)).sum() / left / 13
    return total / cards


def test_counting_cards_reaches_what_is_said_to_be_best():
    for level, decks in (("Easy", 1), ("Medium", 2), ("Hard", 3)):
        best = facts_of(f"HigherLower{level}").best
        assert best == pytest.approx(counting_cards(decks), abs=1e-6)
    # Actions change no card, so that any play shows what the best guesses would have earned.
    steps = 400 * 51
    _, states, _, last, _, _, terminated, _ = play_with_states("HigherLowerEasy", steps)
    ranks = np.arange(13)
    above = ranks > states.card[:, None]
    below = ranks < states.card[:, None]
    surplus = (states.remaining * above).sum(axis=1) - (states.remaining * below).sum(axis=1)
    earned = np.where(surplus >= 0, 1, -1) * np.sign(last - states.card) / 52
    reached = returns(earned, terminated)
    assert reached.mean() == pytest.approx(facts_of("HigherLowerEasy").best, abs=reached.std() / 5)


@pytest.mark.parametrize("width", [80, 120, None])
def test_every_value_is_shown_whole_at_every_width(width):
    names = [f"memory::{name}" for name in MEMORY_TASKS]
    lines = list(task_lines(names, width))
    text = "\n".join(lines)
    assert max(map(len, lines)) <= (width or 300)
    if width is None:
        assert len(lines) == 1 + len(names)
    words = text.split()
    for name in names:
        facts = facts_of(name.partition("::")[2])
        assert name in words
        assert facts.remember in text
        assert {f"{field}={value}" for field, value in facts.fields.items()} <= set(words)


def test_environments_says_what_a_task_is(capsys):
    assert main(["environments", "memory::TMazePassive"]) == 0
    title, line = capsys.readouterr().out.splitlines()
    assert " ".join(title.split()) == (
        "task to remember best without memory steps observation actions parameters"
    )
    assert " ".join(line.split()) == (
        "memory::TMazePassive which way to turn at a corridor's end 1 0.5 11 4 numbers 4 "
        "corridor_length=10 active=False late_penalty=True"
    )
