import jax
import pytest

from tests import laws
from tests.registry import REGISTRY, Build, Entry

PRECISIONS = (laws.FLOAT32, laws.BFLOAT16, laws.FLOAT64)


@pytest.fixture(params=PRECISIONS, ids=lambda precision: precision.name)
def precision(request):
    with jax.enable_x64(request.param is laws.FLOAT64):
        yield request.param


def same_worker(entry: Entry):
    """Let one worker test all of an entry, so that its programs are compiled once."""
    return pytest.mark.xdist_group(entry.name)


@pytest.mark.parametrize(
    ("law", "entry"),
    [
        pytest.param(law, entry, id=f"{law.__name__}-{entry.name}", marks=same_worker(entry))
        for law in laws.LAWS
        for entry in REGISTRY
        if law.__name__ not in entry.exempt
    ],
)
def test_model_keeps_the_law(law, entry: Entry, precision: laws.Precision):
    law(entry.build(precision.dtype, precision.param_dtype), precision)


@pytest.mark.parametrize(
    ("build", "alternative"),
    [
        pytest.param(entry.build, alternative, id=f"{entry.name}-{name}", marks=same_worker(entry))
        for entry in REGISTRY
        for name, alternative in entry.alternatives.items()
    ],
)
def test_implementations_give_one_answer(
    build: Build, alternative: Build, precision: laws.Precision
):
    dtypes = precision.dtype, precision.param_dtype
    laws.one_answer(build(*dtypes), alternative(*dtypes), precision)
