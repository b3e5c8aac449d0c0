"""What the command line answers before anything heavy is imported."""

import subprocess
import sys

import pytest

from memorax.algorithms import DQNConfig
from memorax.catalog.algorithms import ALGORITHMS
from memorax.experiments.cli.command_line import main
from memorax.experiments.cli.listing import LISTS
from memorax.experiments.presets import encoders, heads, names
from memorax.experiments.presets.torsos import TORSOS
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.study.comparison_config import CompareConfig

HEAVY = "flax", "gymnax", "jax", "optax", "orbax", "scipy"
ANSWERS = {
    "--version": 0,
    **{f"list {name}": 0 for name in LISTS},
    "list torsoes": 2,
    "environments": 0,
    "environments memory::*": 0,
    **{
        f"{command} --help": 0
        for command in (
            "train",
            "compare",
            "sweep",
            "evaluate",
            "play",
            "export",
            "report",
            "list",
            "presets",
            "check-memory",
        )
    },
    "trian": 2,
    "train --num-env 3": 2,
    "train --torso gruu": 2,
    "train --algorithm dqm": 2,
    "train --features 0": 2,
    "train --algorithm sac --gamma 2": 2,
    "train --environment memory::RepeatFirst": 2,
    "train --environment gymnaks::CartPole-v1": 2,
    "train --environment TMazePassive": 2,
    "compare --torsos gru lruu": 2,
    "compare --environments memory::TMaze": 2,
    "sweep --search gama=0.9,0.99": 2,
    "check-memory nowhere": 2,
    "check-memory no_such_module:Cell": 2,
    "evaluate nowhere": 2,
    "play nowhere": 2,
    "presets": 0,
    "train --preset popgim": 2,
}
RUN = f"""
import contextlib, io, sys
from memorax.experiments.cli.command_line import main
for line in sys.stdin.read().splitlines():
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            code = main(line.split())
        except SystemExit as stop:
            code = stop.code
    print(line, code, *sorted(set({HEAVY}) & set(sys.modules)), sep="|")
"""


def test_help_lists_and_mistakes_are_answered_without_jax():
    ran = subprocess.run(
        *([sys.executable, "-c", RUN],),
        input="\n".join(ANSWERS),
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.splitlines() == [f"{line}|{code}" for line, code in ANSWERS.items()]


@pytest.mark.parametrize("name", LISTS)
def test_a_list_has_a_line_for_each_name_that_fits_80_columns(name, capsys):
    assert main(["list", name]) == 0
    title, *lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 4
    assert all(len(line) <= 80 for line in (title, *lines))
    assert len({line.split()[0] for line in lines}) == len(lines)


def test_the_names_that_are_listed_are_those_that_are_built():
    assert list(heads.POLICY_HEADS) == list(names.POLICY_HEADS)
    assert list(heads.VALUE_HEADS) == list(names.VALUE_HEADS)
    assert {"auto", "mlp", *encoders.PICTURE_ENCODERS} == set(names.ENCODERS)
    for entry in ALGORITHMS.values():
        assert {*entry.policy_heads} <= {*names.POLICY_HEADS}
        assert {*entry.value_heads} <= {*names.VALUE_HEADS}


@pytest.mark.parametrize("spelled", ["MinGRU", "mingru", "min-gru", "MIN_GRU"])
def test_names_are_found_without_case_and_dashes(spelled):
    assert TrainConfig(torso=spelled).torso == "min_gru"
    assert CompareConfig(torsos=(spelled, "mlp")).models == ("min_gru", "mlp")


def test_algorithms_heads_and_encoders_are_found_without_case_and_dashes(capsys):
    config = TrainConfig(algorithm=DQNConfig(), value_head="C51-Q-Network", encoder="MLP")
    assert (config.value_head, config.encoder) == ("c51_q_network", "mlp")
    assert main(["train", "--algorithm", "R2-D2", "--features", "0"]) == 2
    assert "features must be" in capsys.readouterr().err


def test_no_two_names_of_torsos_differ_in_case_and_dashes_only():
    plain = {name.lower().replace("_", "") for name in TORSOS}
    assert len(plain) == len(TORSOS)


COMMON = (
    *("--environment", "--environment-parameters", "--torso", "--features", "--preset"),
    "--algorithm",
    *("--learning-rate", "--total-steps", "--num-seeds", "--run-folder", "--resume"),
)


@pytest.mark.parametrize("columns", ["80", "120"])
def test_help_shows_the_common_options_in_groups(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    with pytest.raises(SystemExit, match="0"):
        main(["train", "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= int(columns) for line in lines)
    flags = [line.split()[0].rstrip(",") for line in lines if line.startswith("  --")]
    assert sorted(flags) == sorted(COMMON)
    titles = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert titles == ["task:", "memory:", "learning:", "budget:", "where results go:"]
    assert "  --environment-parameters NAME=VALUE ..." in lines
    assert "{" not in "".join(lines)
    assert lines[-1].startswith("'memorax train --help-all' lists all ")


@pytest.mark.parametrize("command", ["train", "compare", "sweep"])
def test_every_option_stands_in_a_group_and_is_understood_as_it_is_written(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help-all"])
    told = capsys.readouterr().out
    assert "\noptions:" not in told
    flags = [line.split()[0].rstrip(",") for line in told.splitlines() if line.startswith("  --")]
    assert len(flags) == len(set(flags)) > 50
    switches = [line.split() for line in told.splitlines() if ", --" in line]
    for flag, negative in switches:
        assert main([command, flag.rstrip(","), negative, "--no-such-option"]) == 2
        assert "unknown option '--no-such-option'" in capsys.readouterr().err
