import jax
import pytest

from tests import laws
from tests.registry import ARCHITECTURES, REGISTRY, Build, Entry

PRECISIONS = (laws.FLOAT32, laws.BFLOAT16, laws.FLOAT64)


def same_worker(entry: Entry):
    """Let one worker test all of an entry, so that its programs are compiled once."""
    return pytest.mark.xdist_group(entry.name)


def exhaustive_if(condition: bool):
    return [pytest.mark.exhaustive] if condition else []


def takes_long(law, entry: Entry):
    """Whether the law compiles most, or much for a model whose parts are held to it already."""
    if entry.at_gate is not None and law.__name__ not in entry.at_gate:
        return True
    return law is laws.transparent or (law is laws.finite and entry in ARCHITECTURES)


@pytest.mark.parametrize(
    ("law", "entry", "precision"),
    [
        pytest.param(
            law,
            entry,
            precision,
            id=f"{precision.name}-{law.__name__}-{entry.name}",
            marks=[
                same_worker(entry),
                *exhaustive_if(precision is not laws.FLOAT32 or takes_long(law, entry)),
            ],
        )
        # All laws of an entry in a row, so that its programs are still there.
        for precision in PRECISIONS
        for entry in REGISTRY
        for law in laws.LAWS
        if law.__name__ not in entry.exempt
    ],
)
def test_model_keeps_the_law(law, entry: Entry, precision: laws.Precision):
    with jax.enable_x64(precision is laws.FLOAT64):
        law(entry.build(precision.dtype, precision.param_dtype), precision)


@pytest.mark.parametrize(
    ("build", "alternative"),
    [
        pytest.param(
            entry.build,
            alternative,
            id=f"{entry.name}-{name}",
            marks=[same_worker(entry), *exhaustive_if(entry.at_gate is not None)],
        )
        for entry in REGISTRY
        for name, alternative in entry.alternatives.items()
    ],
)
@pytest.mark.parametrize(
    "precision",
    [
        pytest.param(
            precision, id=precision.name, marks=exhaustive_if(precision is not laws.FLOAT32)
        )
        for precision in PRECISIONS
    ],
)
def test_implementations_give_one_answer(
    build: Build, alternative: Build, precision: laws.Precision
):
    dtypes = precision.dtype, precision.param_dtype
    with jax.enable_x64(precision is laws.FLOAT64):
        laws.one_answer(build(*dtypes), alternative(*dtypes), precision)
