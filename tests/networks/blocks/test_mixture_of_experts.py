from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax.networks import FFN, RNN, MoE, TopKRouter
from tests.networks.samples import draw_params

BATCH, TIME, FEATURES = 3, 9, 4
INPUTS = jax.random.normal(jax.random.key(0), (BATCH, TIME, FEATURES))
DONE = jnp.zeros((BATCH, TIME), bool).at[1, 2].set(True)
EXPERT = FFN(FEATURES, 2)
MEMORY = RNN(cell=nn.GRUCell(FEATURES))


def mixture(num_experts, k, implementation="auto", expert=EXPERT):
    return MoE((expert,) * num_experts, TopKRouter(num_experts, k), implementation)


def values_and_gradients(model, params, inputs=INPUTS):
    def total(params, inputs):
        outputs = model.apply(params, inputs)[1]
        return (outputs**2).sum(), outputs

    return jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))(params, inputs)


def test_gates_of_the_chosen_experts_weigh_their_outputs():
    model = mixture(4, 2)
    params = draw_params(model, INPUTS)
    _, outputs = jax.jit(model.apply)(params, INPUTS)
    kernel = np.asarray(params["params"]["router"]["router"]["kernel"], np.float64)
    outputs, observed = np.asarray(outputs), np.asarray(INPUTS)
    read = jax.jit(EXPERT.apply)
    told = [
        np.asarray(read({"params": params["params"][f"expert_{expert}"]}, INPUTS))
        for expert in range(4)
    ]
    for row in range(BATCH):
        for step in range(TIME):
            probabilities = np.exp(observed[row, step] @ kernel)
            chosen = np.argsort(-probabilities)[:2]
            expected = sum(probabilities[expert] * told[expert][row, step] for expert in chosen)
            expected /= probabilities[chosen].sum()
            np.testing.assert_allclose(outputs[row, step], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("num_experts", "k"), [(8, 2), (3, 3), (5, 1), (1, 1)])
def test_dispatch_computes_what_all_experts_do(num_experts, k):
    params = draw_params(mixture(num_experts, k), INPUTS)
    dense, dispatched = (
        values_and_gradients(mixture(num_experts, k, implementation), params)
        for implementation in ("dense", "dispatch")
    )
    for one, other in zip(jax.tree.leaves(dispatched), jax.tree.leaves(dense), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_no_step_is_dropped_when_all_choose_the_same_expert():
    inputs = jnp.abs(INPUTS) + 1
    params = draw_params(mixture(8, 2), inputs)
    kernel = params["params"]["router"]["router"]["kernel"]
    params["params"]["router"]["router"]["kernel"] = kernel.at[:, 5].set(9.0).at[:, 2].set(8.0)
    _, dense = values_and_gradients(mixture(8, 2, "dense"), params, inputs)
    _, dispatched = values_and_gradients(mixture(8, 2, "dispatch"), params, inputs)
    np.testing.assert_allclose(dispatched, dense, rtol=1e-4, atol=1e-5)


def products(model, params, inputs):
    program = jax.jit(lambda params: model.apply(params, inputs)[1]).lower(params).compile()
    return program.cost_analysis()["flops"]


def test_dispatch_is_chosen_when_it_computes_less():
    inputs = jnp.ones((8, 64, 16))
    expert = FFN(16, 4)
    params = draw_params(mixture(8, 1, expert=expert), inputs)
    dense, dispatched, chosen = (
        products(mixture(8, 1, implementation, expert), params, inputs)
        for implementation in ("dense", "dispatch", "auto")
    )
    assert chosen == dispatched < dense / 4

    def computes_all(k, inputs):
        dense, chosen = (
            products(mixture(8, k, implementation, expert), params, inputs)
            for implementation in ("dense", "auto")
        )
        return chosen == dense

    assert computes_all(1, inputs[:, :1])
    assert computes_all(7, inputs)
    assert not computes_all(6, inputs)


class Sowing(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        self.sow("losses", "size", jnp.square(inputs).mean())
        return nn.Dense(FEATURES)(inputs)


class Dropping(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        return nn.Dropout(0.5, deterministic=not self.has_rng("dropout"))(nn.Dense(4)(inputs))


def test_experts_that_sow_or_draw_are_not_dispatched():
    inputs = jnp.ones((8, 64, FEATURES))
    model = mixture(8, 1, expert=Sowing())
    params = draw_params(model, inputs)
    _, sown = jax.eval_shape(lambda: model.apply(params, inputs, mutable=["losses"]))
    assert set(sown["losses"]) == {"router", *(f"expert_{number}" for number in range(8))}
    with pytest.raises(ValueError, match=r'"dispatch" needs experts that neither .* got Sowing'):
        jax.eval_shape(mixture(8, 1, "dispatch", Sowing()).apply, params, inputs)

    params = draw_params(mixture(8, 1, expert=Dropping()), inputs)

    def apply(implementation, rngs):
        model = mixture(8, 1, implementation, Dropping())
        return jax.eval_shape(lambda: model.apply(params, inputs, rngs=rngs))

    apply("dispatch", {})
    apply("auto", {"dropout": jax.random.key(0)})
    with pytest.raises(ValueError, match=r'"dispatch" needs experts that neither .* got Dropping'):
        apply("dispatch", {"dropout": jax.random.key(0)})


def test_memories_read_every_step_whomever_the_router_chooses():
    model = mixture(2, 1, expert=MEMORY)
    params = draw_params(model, INPUTS)
    carry, outputs = jax.jit(model.apply)(params, INPUTS, DONE)
    read = jax.jit(MEMORY.apply)
    alone = [
        read({"params": params["params"][f"expert_{number}"]}, INPUTS, DONE) for number in range(2)
    ]
    np.testing.assert_array_equal(carry, [final for final, _ in alone])
    logits = np.asarray(INPUTS) @ np.asarray(params["params"]["router"]["router"]["kernel"])
    chosen = logits.argmax(-1)
    assert 0 < chosen.mean() < 1
    expected = np.where(chosen[..., None] == 0, alone[0][1], alone[1][1])
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)


def test_load_is_sown_with_the_losses():
    model = mixture(4, 2)
    params = draw_params(model, INPUTS)
    _, sown = jax.jit(partial(model.apply, mutable=["losses", "intermediates"]))(params, INPUTS)
    (load,) = sown["intermediates"]["router"]["expert_load"]
    np.testing.assert_allclose(load.sum(), 2, rtol=1e-6)
    assert set(sown["losses"]["router"]) == {"load_balancing", "router_z"}
    assert set(jax.eval_shape(model.init, jax.random.key(0), INPUTS)) == {"params"}


def test_load_balancing_is_least_when_all_experts_are_used_alike():
    router = TopKRouter(2, k=1, load_balancing_coefficient=1)
    inputs = jnp.stack([jnp.eye(2), jnp.eye(2)])

    @jax.jit
    def loss(kernel):
        params = {"params": {"router": {"kernel": kernel}}}
        return router.apply(params, inputs, mutable=["losses"])[1]["losses"]["load_balancing"][0]

    np.testing.assert_allclose(loss(jnp.array([[5.0, -5.0], [-5.0, 5.0]])), 1, rtol=1e-4)
    np.testing.assert_allclose(loss(jnp.array([[5.0, -5.0], [5.0, -5.0]])), 2, rtol=1e-3)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: TopKRouter(4, 5), "TopKRouter.k must be at most num_experts, got k=5, num_exp"),
        (lambda: TopKRouter(4, 0), "TopKRouter.k must be .* at least 1, got 0"),
        (lambda: TopKRouter(0), "TopKRouter.num_experts must be .* at least 1, got 0"),
        (
            lambda: TopKRouter(4, load_balancing_coefficient=-1),
            "TopKRouter.load_balancing_coefficient must be a number of at least 0, got -1",
        ),
        (lambda: MoE((), TopKRouter(2)), r"MoE.experts must be a tuple of experts, got \(\)"),
        (
            lambda: MoE((EXPERT, 7), TopKRouter(2)),
            r"MoE.experts\[1\] must be a Flax module or a callable, got 7",
        ),
        (lambda: MoE((EXPERT,), 7), "MoE.router must be a Flax module or a callable, got 7"),
        (
            lambda: MoE((EXPERT,) * 3, TopKRouter(4)),
            "MoE.router must have as many experts as MoE.experts, got num_experts=4 and 3 experts",
        ),
        (
            lambda: mixture(2, 1, "dens"),
            "MoE.implementation: unknown implementation 'dens'; the closest are: dense",
        ),
        (
            lambda: mixture(2, 1, "dispatch", MEMORY),
            'MoE.implementation "dispatch" needs .* no carry, got RNN, RNN',
        ),
        (
            lambda: MoE((EXPERT, FFN(FEATURES)), TopKRouter(2), "dispatch"),
            'MoE.implementation "dispatch" needs experts that are all alike .* got FFN, FFN',
        ),
    ],
)
def test_bad_field_is_named(build, words, as_a_user):
    with pytest.raises(ValueError, match=words):
        build()


def test_experts_of_differing_sizes_are_refused():
    model = MoE((FFN(4), FFN(6)), TopKRouter(2))
    with pytest.raises(ValueError, match=r"MoE.experts must .* one size, got features \[4, 6\]"):
        jax.eval_shape(model.init, jax.random.key(0), INPUTS)
