import jax.numpy as jnp
import pytest

from tests import broken_models, laws


@pytest.mark.parametrize("law", laws.LAWS, ids=lambda law: law.__name__)
def test_the_sound_model_keeps_every_law(law):
    law(broken_models.Sound())


@pytest.mark.parametrize(
    ("model", "law"),
    [
        (broken_models.LosesWindow, laws.cut),
        (broken_models.RestartsCount, laws.cut),
        (broken_models.HandsOnAnotherDtype, laws.cut),
        (broken_models.ForgetsTooLate, laws.reset),
        (broken_models.ForgetsByMultiplying, laws.reset),
        (broken_models.LooksAhead, laws.causal),
        (broken_models.MixesRows, laws.row),
        (broken_models.Overflows, laws.finite),
        (broken_models.DrawsByItself, laws.transparent),
    ],
    ids=lambda value: value.__name__,
)
def test_a_broken_model_is_rejected_by_the_law_it_breaks(model, law):
    with pytest.raises(laws.LawBrokenError) as caught:
        law(model())
    assert caught.value.law == law.__name__


def test_an_implementation_that_is_off_is_rejected():
    with pytest.raises(laws.LawBrokenError) as caught:
        laws.one_answer(broken_models.Sound(), broken_models.AnotherDecay())
    assert caught.value.law == "one_answer"


def test_a_fault_is_rejected_in_half_precision_too():
    model = broken_models.RestartsCount(dtype=jnp.bfloat16)
    with pytest.raises(laws.LawBrokenError, match="outputs in pieces"):
        laws.cut(model, laws.BFLOAT16)
