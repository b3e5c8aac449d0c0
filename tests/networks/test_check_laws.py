"""The laws as a user checks them: each broken model is found, with the smallest case."""

import pytest

from memorax.networks import Memoroid, MinGRUCell, MinGRUConfig
from memorax.networks.laws import LAWS, check_laws
from tests import broken_models


def test_a_sound_model_keeps_the_laws():
    # The command's test has every law kept.
    findings = list(check_laws(broken_models.Sound(), laws=["carry", "cut", "reset"]))
    assert [finding.broken for finding in findings] == [None] * 3


def test_every_law_has_a_statement():
    assert all(law.__doc__.splitlines()[0].endswith(".") for law in LAWS.values())


class Unequal(MinGRUCell):
    """Adds a little where it is run step by step."""

    def __call__(self, inputs, done, carry, implementation, chunk_size):
        carry, outputs = super().__call__(inputs, done, carry, implementation, chunk_size)
        return carry, outputs + 1e-3 * (implementation == "sequential")


@pytest.mark.parametrize(("cell", "broken"), [(MinGRUCell, False), (Unequal, True)])
def test_implementations_are_compared(cell, broken):
    model = Memoroid(cell(MinGRUConfig(features=4)))
    (finding,) = check_laws(model, laws=["one_answer"])
    assert bool(finding.broken) == broken
    assert not broken or finding.broken.startswith("2 steps, no reset: 'sequential' and 'auto' d")


@pytest.mark.parametrize(
    ("model", "law", "case"),
    [
        (broken_models.LosesWindow, "cut", "2 steps from a fresh carry in pieces of 1 and 1, no"),
        (broken_models.RestartsCount, "cut", "2 steps from a fresh carry in pieces of 1 and 1, no"),
        (
            broken_models.HandsOnAnotherDtype,
            "carry",
            "1 steps: the carry is ('float32[2, 3, 4]', 'fl",
        ),
        (broken_models.ForgetsTooLate, "reset", "2 steps from a later carry, a reset at step 0: o"),
        (
            broken_models.ForgetsByMultiplying,
            "reset",
            "2 steps from a later carry, a reset at step",
        ),
        (
            broken_models.LooksAhead,
            "causal",
            "2 steps: with other inputs and no reset after step 0",
        ),
        (broken_models.MixesRows, "row", "1 steps: with other inputs and no reset in row 0, row 1"),
        (broken_models.Overflows, "finite", "1 steps, inputs scaled by 1000, no reset: "),
        (broken_models.DrawsByItself, "transparent", "2 steps: the same call, made twice: differ"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_broken_model_is_found_by_its_law_with_the_smallest_case(model, law, case):
    (finding,) = check_laws(model(), laws=[law])
    assert finding.broken.startswith(case)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"features": 0}, r"check_laws\.features must be an integer"),
        ({"tolerance": -1.0}, r"check_laws\.tolerance must be"),
        ({"laws": ["cuts"]}, "unknown law 'cuts'; the closest are: cut"),
    ],
)
def test_options_are_checked(options, words):
    with pytest.raises(ValueError, match=words):
        next(check_laws(broken_models.Sound(), **options))
