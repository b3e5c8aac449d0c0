import jax
import pytest

from tests import laws
from tests.registry import REGISTRY, Build, Entry

PRECISIONS = (laws.FLOAT32, laws.BFLOAT16, laws.FLOAT64)


@pytest.fixture(params=PRECISIONS, ids=lambda precision: precision.name)
def precision(request):
    with jax.enable_x64(request.param is laws.FLOAT64):
        yield request.param


@pytest.mark.parametrize("entry", REGISTRY, ids=lambda entry: entry.name)
@pytest.mark.parametrize("law", laws.LAWS, ids=lambda law: law.__name__)
def test_model_keeps_the_law(law, entry: Entry, precision: laws.Precision):
    law(entry.build(precision.dtype, precision.param_dtype), precision)


@pytest.mark.parametrize(
    ("build", "alternative"),
    [
        pytest.param(entry.build, alternative, id=f"{entry.name}-{name}")
        for entry in REGISTRY
        for name, alternative in entry.alternatives.items()
    ],
)
def test_implementations_give_one_answer(
    build: Build, alternative: Build, precision: laws.Precision
):
    dtypes = precision.dtype, precision.param_dtype
    laws.one_answer(build(*dtypes), alternative(*dtypes), precision)
