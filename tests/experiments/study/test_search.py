"""What a sweep tries, without training anything."""

import json
import math

import numpy as np
import pytest

from memorax.algorithms import R2D2Config
from memorax.experiments.cli.command_line import main
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.folder import RunFolder
from memorax.experiments.study.proposals import propose
from memorax.experiments.study.pruning import below_median
from memorax.experiments.study.search_space import (
    Choices,
    RealRange,
    WholeRange,
    parse_search,
    value_of,
    with_values,
)
from memorax.experiments.study.sweep_config import SweepConfig
from memorax.experiments.study.trial import Ending, Trial

TRAIN = TrainConfig(memoryless_twin=False)
SEARCH = ("learning-rate=log:1e-4:1e-2", "gae-lambda=0.9,0.95", "features=int:8:10")


def test_ranges_and_values_are_of_the_type_of_their_option():
    searches = [
        *("learning_rate=log:1e-4:1e-2", "gamma=uniform:0.9:1", "features=int:8:16"),
        *("value-clip-coefficient=none,0.2", "anneal-learning-rate=true,false", "torso=gru,lru"),
        *("value-range=-1 1,-2 2", "environment-parameters=memory_length=3,memory_length=5 x=1"),
    ]
    assert parse_search(searches, TRAIN) == {
        "learning-rate": RealRange(1e-4, 1e-2, logarithmic=True),
        "gamma": RealRange(0.9, 1.0, logarithmic=False),
        "features": WholeRange(8, 16),
        "value-clip-coefficient": Choices((None, 0.2)),
        "anneal-learning-rate": Choices((True, False)),
        "torso": Choices(("gru", "lru")),
        "value-range": Choices(((-1.0, 1.0), (-2.0, 2.0))),
        "environment-parameters": Choices((("memory_length=3",), ("memory_length=5", "x=1"))),
    }


def test_draws_fill_their_range_evenly():
    generator = np.random.default_rng(0)
    drawn = [RealRange(1e-4, 1e-2, logarithmic=True).draw(generator) for _ in range(400)]
    assert min(drawn) >= 1e-4
    assert max(drawn) <= 1e-2
    assert np.mean(np.array(drawn) < 1e-3) == pytest.approx(0.5, abs=0.1)
    whole = [WholeRange(1, 3).draw(generator) for _ in range(300)]
    assert np.allclose(np.bincount(whole)[1:] / 300, 1 / 3, atol=0.1)


def test_values_go_to_the_run_or_to_its_algorithm():
    train = TrainConfig(algorithm=R2D2Config(), memoryless_twin=False)
    changed = with_values(train, {"learning-rate": 0.5, "n-step": 3})
    assert (changed.learning_rate, changed.algorithm.n_step) == (0.5, 3)
    assert value_of(changed, "n-step") == 3
    with pytest.raises(ValueError, match="gamma must be a number from 0 to 1, got 2"):
        with_values(train, {"gamma": 2.0})


def test_a_grid_has_every_combination_in_order():
    config = SweepConfig(train=TRAIN, search=("torso=gru,lru", "features=int:8:10"), method="grid")
    values = propose(config, []).values
    assert config.trials == len(values) == 6
    assert [tuple(each.values()) for each in values[:4]] == [
        ("gru", 8),
        ("gru", 9),
        ("gru", 10),
        ("lru", 8),
    ]


def trial(folder, number, values, ending, returns=()):
    """Make a trial that has ended."""
    path = folder / f"{number:03}"
    path.mkdir()
    made = Trial(number, values, TRAIN, RunFolder(path))
    made.end(ending)
    if ending.outcome == "finished":
        evaluation = {"model": "gru", "seed_returns": list(returns), "num_ended": 1}
        evaluation |= {"num_parameters": 1, "carry_bytes": 1, "num_cut_off": 0}
        (path / "evaluation.json").write_text(json.dumps([evaluation]))
        (path / "timing.json").write_text('{"gru": {"steps": 8, "seconds": 1}}')
        rows = [f"gru,{seed},8,1,{value}\n" for seed, value in enumerate(returns)]
        header = "model,seed,step,num_episodes,episode_return\n"
        (path / "metrics.csv").write_text(header + "".join(rows))
    return made


def ended_trials(config, folder):
    """Let trials with a small learning rate be the best, one be pruned and one diverge."""
    ended = []
    while len(ended) < 12:
        for values in propose(config, ended).values[: 12 - len(ended)]:
            reached = -math.log(values["learning-rate"]) - values["features"]
            number = len(ended)
            ending = Ending("finished", reports=(reached,) * 10)
            if number == 3:
                ending = Ending("pruned", "", (reached, None, reached))
            if number == 5:
                ending = Ending("diverged", "a loss", (reached,))
            ended.append(trial(folder, number, values, ending, [reached]))
    return ended


@pytest.mark.parametrize("method", ["random", "optuna"])
def test_proposals_depend_on_nothing_but_the_seed_and_how_trials_ended(method, tmp_path):
    config = SweepConfig(train=TRAIN, search=SEARCH, method=method, num_trials=16)
    ended = ended_trials(config, tmp_path)
    again, more = propose(config, ended).values, propose(config, ended).values
    assert again == more
    assert len(again) == 4
    assert len({each["learning-rate"] for each in again}) == 4
    other = SweepConfig(
        train=TrainConfig(memoryless_twin=False, seed=1),
        search=SEARCH,
        method=method,
        num_trials=16,
    )
    assert propose(other, ended).values != again
    for each in again:
        with_values(TRAIN, each)


@pytest.mark.parametrize("method", ["random", "optuna"])
def test_the_greatest_seed_is_one_like_any_other(method, tmp_path):
    train = TrainConfig(memoryless_twin=False, seed=2**32 - 1)
    config = SweepConfig(train=train, search=SEARCH, method=method, num_trials=16)
    assert len(propose(config, ended_trials(config, tmp_path)).values) == 4


def test_optuna_learns_from_the_trials_before(tmp_path):
    config = SweepConfig(train=TRAIN, search=SEARCH, method="optuna", num_trials=16)
    later = [
        each["learning-rate"] for each in propose(config, ended_trials(config, tmp_path)).values
    ]
    # Half of what is drawn at random is below the middle of the range.
    assert np.median(later) < 1e-3


def test_a_trial_below_the_median_of_the_others_is_stopped():
    finished = [[1.0, 2.0, 3.0, 9.0], [2.0, 3.0, 4.0, 9.0], [None, 6.0, 6.0, 9.0]]
    assert below_median([0.0, 2.9, 0.0], finished)
    assert not below_median([0.0, 3.1, 0.0], finished), "its best part counts"
    assert not below_median([0.0, 0.0], finished), "it is too early"
    assert not below_median([0.0, 0.0, 0.0], finished[:2]), "too few have finished"
    assert not below_median([None, None, None], finished), "nothing is known of it"


@pytest.mark.parametrize("prune", ["median", "halving", None])
def test_optuna_prunes_by_its_own_rules(prune, tmp_path):
    config = SweepConfig(train=TRAIN, search=SEARCH, method="optuna", num_trials=16, prune=prune)
    proposals = propose(config, ended_trials(config, tmp_path))
    bad, good = [-100.0] * 4, [100.0] * 4
    assert proposals.should_stop(0, bad, []) == (prune is not None)
    assert not proposals.should_stop(1, good, [])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("", "search must name what to try"),
        ("--search learning-rat=1,2", "'learning-rat'; the closest are: learning-rate"),
        ("--search n-step=1,2", "unknown option to search 'n-step'"),
        ("--search loggers=csv,jsonl", "loggers is the same in every trial"),
        ("--search learning-rate", "flag=range or flag=value,value,..., got 'learning-rate'"),
        ("--search learning-rate=log:1e-2:1e-4", "must go from a lower to a higher number above 0"),
        ("--search learning-rate=log:0:1", "must go from a lower to a higher number above 0"),
        ("--search gamma=uniform:1:1", "gamma must go from a lower to a higher number"),
        ("--search gamma=uniform:0.5", "a range is uniform:LOW:HIGH"),
        ("--search gamma=uniform:a:b", "gamma takes numbers, got 'a'"),
        ("--search features=log:8:64", "features takes integers, which log: does not draw"),
        ("--search features=8,8.5", "features takes integers, got '8.5'"),
        ("--search features=8,8", "values of features must differ from each other"),
        ("--search features=8,16 features=8,32", "must name an option once, got features twice"),
        ("--search torso=gru,gro", "unknown torso 'gro'; the closest are: gru"),
        (
            "--search num-minibatches=5,4 --method grid",
            "with num-minibatches=5 cannot be made",
        ),
        ("--search gamma=uniform:0:1 --method grid", "a grid has values"),
        (
            "--search seed=int:0:10000 --method grid",
            "a grid must have 10000 trials at most, got 10001",
        ),
        ("--search seed=int:0:100000000000 --method grid", "trials at most, got 100000000001"),
        (
            "--search seed=int:0:99999999999999999999",
            "seed must go from a lower to a higher number",
        ),
        ("--search features=8,9 --num-trials 10001", "num_trials must be an integer from 1 to"),
        ("--search features=8,9 --method grid --num-trials 3", "a grid has all of its 2 trials"),
        ("--search features=8,9 --method best", "best"),
        ("--search features=8,9 --prune halving", "prune 'halving' is optuna's"),
        ("--search features=8,9 --trials-at-once 0", "trials_at_once must be an integer"),
        ("--search features=8,9 --memoryless-twin", "a trial trains one memory"),
        ("--search features=8,9 --resume", "--resume needs --sweep-folder"),
    ],
)
def test_bad_input_is_told_in_one_line_with_exit_code_2(
    options, words, capsys, as_a_user, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", *options.split()]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir()), "nothing may be written for bad input"
