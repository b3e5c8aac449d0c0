from functools import partial

import jax
import numpy as np
import pytest

from memorax.networks import GLU, MoE, TopKRouter
from tests.golden.cases import TOLERANCES, assert_golden, cast, load

CASE = load("moe")
EXPERTS, _, FEATURES = CASE["param_gate_up"].shape
HIDDEN = CASE["param_down"].shape[-1]
ROUTER = {"router": {"kernel": CASE["param_router"].T}}


def expert(number):
    gate, up = np.split(CASE["param_gate_up"][number], 2)
    kernels = {"gate": gate, "up": up, "down": CASE["param_down"][number]}
    return {name: {"kernel": kernel.T} for name, kernel in kernels.items()}


PARAMS = {"router": ROUTER} | {f"expert_{number}": expert(number) for number in range(EXPERTS)}


@pytest.fixture(params=TOLERANCES, ids=lambda dtype: dtype.__name__)
def dtype(request):
    with jax.enable_x64(request.param is np.float64):
        yield request.param


@pytest.mark.parametrize("implementation", ["dense", "dispatch"])
def test_mixture_is_that_of_mixtral(implementation, dtype):
    ffn = GLU(FEATURES, HIDDEN / FEATURES, param_dtype=dtype)
    router = TopKRouter(EXPERTS, k=2, param_dtype=dtype)
    model = MoE((ffn,) * EXPERTS, router, implementation)
    variables = cast({"params": PARAMS}, dtype)
    _, outputs = jax.jit(model.apply)(variables, cast(CASE["x"], dtype))
    assert_golden(outputs, CASE["y"], dtype)


@pytest.mark.parametrize("k", [1, 2])
def test_router_and_its_losses_are_those_of_the_papers(k, dtype):
    router = TopKRouter(
        EXPERTS, k, load_balancing_coefficient=1, z_coefficient=1, param_dtype=dtype
    )
    route = jax.jit(partial(router.apply, mutable=["losses"]))
    (gates, chosen), sown = route(cast({"params": ROUTER}, dtype), cast(CASE["x"], dtype))
    np.testing.assert_array_equal(chosen.reshape(-1, k), CASE["topk_index"][:, :k])
    if k == 2:
        assert_golden(gates.reshape(-1, k), CASE["topk_weight"], dtype)
    (balance,), (z_loss,) = sown["losses"]["load_balancing"], sown["losses"]["router_z"]
    assert_golden((balance, z_loss), (CASE[f"aux_loss_k{k}"], CASE["z_loss"]), dtype)
