"""``memorax check-memory module:Cell``."""

import pytest

from memorax.experiments.cli.command_line import main

MODULE = """
import flax.linen as nn
import jax.numpy as jnp


class Sum:
    def initialize_carry(self, key, input_shape):
        return jnp.zeros(input_shape)

    def __call__(self, carry, inputs):
        carry = 0.9 * carry + inputs
        return carry, carry


class Mixing(Sum):
    def __call__(self, carry, inputs):
        return super().__call__(carry, inputs - inputs.mean(axis=0))


class Lacking:
    def __call__(self, carry, inputs):
        return carry, inputs


class Failing(Sum):
    def __call__(self, carry, inputs):
        raise KeyError("hidden")


class Sized(Sum):
    def __init__(self, width):
        self.width = width


def gru(features):
    return nn.GRUCell(features=features)
"""


@pytest.fixture
def cells(tmp_path, monkeypatch):
    """A module in the folder that the command is run in, of a name that no other test has."""
    name = f"cells_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return name


def test_a_cell_that_keeps_all_laws_is_reported_so(cells, capsys):
    assert main(["check-memory", f"{cells}:Sum", "--features", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        *(["carry", "holds"], ["cut", "holds"], ["reset", "holds"], ["causal", "holds"]),
        *(["row", "holds"], ["finite", "holds"], ["one_answer", "holds"], ["transparent", "holds"]),
    ]


def test_a_broken_law_is_reported_with_the_smallest_case(cells, capsys):
    assert main(["check-memory", f"{cells}:Mixing", "--laws", "carry", "row"]) == 1
    carry, row, case = capsys.readouterr().out.splitlines()
    assert carry.split()[:2] == ["carry", "holds"]
    assert row.split()[:2] == ["row", "BROKEN"]
    assert "smallest case: 1 steps: with other inputs and no reset in row 0, row 1 differ" in case


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("nowhere", "a cell is named 'module:Cell', got 'nowhere'"),
        ("no_such_module:Cell", "No module named 'no_such_module'"),
        ("CELLS:Summ", "unknown name in the module CELLS 'Summ'; the closest are: Sum"),
        ("CELLS:Lacking", "method initialize_carry(key, input_shape) -> carry, got Lacking"),
        ("CELLS:Sized", "CELLS:Sized must need no argument but features, got width"),
        ("CELLS:Failing", "CELLS:Failing cannot be run: KeyError: 'hidden'"),
        ("CELLS:Sum --laws rows", "unknown law 'rows'; the closest are: row"),
        ("CELLS:Sum --features 0", "features must be an integer of at least 1, got 0"),
    ],
)
def test_what_cannot_be_checked_is_refused_in_one_line(cells, arguments, words, capsys):
    assert main(["check-memory", *arguments.replace("CELLS", cells).split()]) == 2
    printed = capsys.readouterr()
    assert words.replace("CELLS", cells) in printed.err
    assert (printed.out, printed.err.count("\n")) == ("", 1)
