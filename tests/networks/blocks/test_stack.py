import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from memorax.networks import (
    FFN,
    RNN,
    GatedResidual,
    MoE,
    PreNorm,
    Projection,
    RelativePositionalEmbedding,
    Residual,
    SegmentRecurrence,
    SelfAttention,
    SelfAttentionConfig,
    Stack,
    TopKRouter,
)
from tests.networks.samples import draw, draw_params

BATCH, TIME, FEATURES = 2, 5, 4
INPUTS = jax.random.normal(jax.random.key(0), (BATCH, TIME, FEATURES))
DONE = jnp.zeros((BATCH, TIME), bool).at[1, 2].set(True)

MEMORY = Residual(PreNorm(RNN(cell=nn.GRUCell(FEATURES)), nn.RMSNorm()))
NETWORK = Residual(PreNorm(FFN(FEATURES, 2)))
LAYER = (MEMORY, NETWORK)


def shapes(model):
    return jax.eval_shape(model.init, jax.random.key(0), INPUTS)


def size(model):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes(model)))


def attention():
    embedding = RelativePositionalEmbedding(FEATURES)
    config = SelfAttentionConfig(FEATURES, 2, 3, embedding)
    return SegmentRecurrence(SelfAttention(config), 2, FEATURES)


DEEP = {
    "dense": nn.Dense(FEATURES),
    "sequential": nn.Sequential([nn.Dense(FEATURES), nn.Sequential((nn.Dense(FEATURES),))]),
    "gated attention": GatedResidual(PreNorm(attention())),
    "stack": Residual(Stack((nn.Dense(FEATURES), Stack((MEMORY,) * 2)))),
    "experts": MoE((FFN(FEATURES),) * 2, TopKRouter(2)),
    "stack in sequential": nn.Sequential([NETWORK.module.module, nn.Dense(FEATURES)]),
}


@pytest.mark.parametrize("block", DEEP.values(), ids=DEEP)
def test_repeated_instances_are_independent_layers_all_the_way_down(block):
    one = size(Stack((block,)))
    assert [size(Stack((block,) * layers)) for layers in (2, 4)] == [2 * one, 4 * one]
    assert size(Stack((block,) * 4, scan_layers=True)) == 4 * one
    assert size(Stack((block,) * 2, share_parameters=True)) == one


@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize("scan_layers", [False, True])
def test_layers_begin_unlike_one_another(scan_layers, remat):
    model = Stack((nn.Dense(FEATURES),) * 2, remat=remat, scan_layers=scan_layers)
    kernels = jax.tree.leaves(jax.jit(model.init)(jax.random.key(0), INPUTS)["params"])
    kernels = [kernel for kernel in kernels if kernel.shape[-2:] == (FEATURES, FEATURES)]
    one, other = kernels[0] if scan_layers else kernels
    assert np.abs(one - other).min() > 0


def by_hand(params, inputs, places, carries):
    """Read with each place's own parameters, one after the other."""
    final, blocks = [], [jax.jit(Stack((block,)).apply) for block in LAYER]
    for number, carry in zip(places, carries, strict=True):
        place = {"params": {"layers_0": params["params"][f"layers_{number}"]}}
        (carry_after,), inputs = blocks[number % 2](place, inputs, DONE, (carry,))
        final.append(carry_after)
    return tuple(final), inputs


PLAIN = draw_params(Stack(LAYER * 3), INPUTS)
CARRY = draw(
    jax.eval_shape(lambda: Stack(LAYER * 3).initialize_carry(jax.random.key(0), (BATCH, 1)))
)
STACKED = {
    "params": {
        f"layers_{place}": jax.tree.map(
            lambda *leaves: jnp.stack(leaves),
            *(PLAIN["params"][f"layers_{2 * layer + place}"] for layer in range(3)),
        )
        for place in range(2)
    }
}
STACKED_CARRY = (jnp.stack(CARRY[::2], axis=1), ())


def assert_close(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_blocks_run_one_after_the_other_each_with_its_own_carry():
    carry, outputs = jax.jit(Stack(LAYER * 3).apply)(PLAIN, INPUTS, DONE, CARRY)
    assert_close((carry, outputs), by_hand(PLAIN, INPUTS, range(6), CARRY))
    assert [jax.tree.map(jnp.shape, part) for part in carry] == [(BATCH, FEATURES), ()] * 3


@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize("scan_layers", [False, True])
def test_scanned_and_rematerialised_layers_compute_the_same(scan_layers, remat):
    def values_and_gradients(model, params, carry):
        def total(params, inputs):
            carry_after, outputs = model.apply(params, inputs, DONE, carry)
            return (outputs**2).sum(), (carry_after, outputs)

        return jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))(params, INPUTS)

    expected = values_and_gradients(Stack(LAYER * 3), PLAIN, CARRY)
    model = Stack(LAYER * 3, remat=remat, scan_layers=scan_layers)
    if not scan_layers:
        assert_close(values_and_gradients(model, PLAIN, CARRY), expected)
        return
    assert jax.tree.map(jnp.shape, shapes(model)) == jax.tree.map(jnp.shape, STACKED)
    gradients, (carry, outputs) = values_and_gradients(model, STACKED, STACKED_CARRY)
    (to_params, to_inputs), (expected_carry, expected_outputs) = expected
    assert_close((gradients[1], outputs), (to_inputs, expected_outputs))
    assert_close(carry, (jnp.stack(expected_carry[::2], axis=1), ()))
    for layer in range(3):
        for place in range(2):
            one = jax.tree.map(lambda leaf, n=layer: leaf[n], gradients[0]["params"])
            assert_close(one[f"layers_{place}"], to_params["params"][f"layers_{2 * layer + place}"])


@pytest.mark.parametrize("scan_layers", [False, True])
def test_shared_parameters_are_read_at_every_place_with_a_carry_of_its_own(scan_layers):
    model = Stack(LAYER * 3, share_parameters=True, scan_layers=scan_layers)
    params = {"params": {f"layers_{place}": PLAIN["params"][f"layers_{place}"] for place in (0, 1)}}
    assert jax.tree.map(jnp.shape, shapes(model)) == jax.tree.map(jnp.shape, params)
    start = STACKED_CARRY if scan_layers else CARRY
    carry, outputs = jax.jit(model.apply)(params, INPUTS, DONE, start)
    expected_carry, expected = by_hand(params, INPUTS, [0, 1] * 3, CARRY)
    assert_close(outputs, expected)
    if scan_layers:
        expected_carry = (jnp.stack(expected_carry[::2], axis=1), ())
    assert_close(carry, expected_carry)


def operations(jaxpr):
    """Count operations with those inside others, such as a scan's, once each."""
    return sum(
        1 + sum(operations(inner) for inner in jaxprs_in_params(equation.params))
        for equation in jaxpr.eqns
    )


def test_a_program_of_scanned_layers_does_not_grow_with_depth():
    def length(layers, scan_layers):
        model = Stack(LAYER * layers, scan_layers=scan_layers)
        program = jax.make_jaxpr(model.apply)(shapes(model), INPUTS, DONE)
        return operations(program.jaxpr)

    assert length(2, False) < 0.6 * length(4, False)
    shallow, deep = length(2, True), length(8, True)
    assert deep <= shallow + 10


def test_what_layers_sow_is_kept_in_a_scan():
    experts = Residual(MoE((nn.Dense(FEATURES),) * 2, TopKRouter(2, k=1)))
    params = draw_params(Stack((experts,)), INPUTS)

    def sown_by(model):
        return jax.jit(lambda params: model.apply(params, INPUTS, mutable=["losses"])[1])(params)

    sown = [
        sown_by(Stack((experts,) * 3, share_parameters=True, scan_layers=scan_layers))
        for scan_layers in (False, True)
    ]
    one, other = (sum(leaf.sum() for leaf in jax.tree.leaves(losses)) for losses in sown)
    np.testing.assert_allclose(one, other, rtol=1e-5)


def test_a_list_of_blocks_does():
    assert Stack([NETWORK]) == Stack((NETWORK,))
    hash(Stack([NETWORK]))


@pytest.mark.parametrize(
    ("blocks", "fields", "words"),
    [
        ((), {}, r"Stack.blocks must be a tuple of blocks, got \(\)"),
        (NETWORK, {}, "Stack.blocks must be a tuple of blocks, got Residual"),
        ((NETWORK, 3), {}, r"Stack.blocks\[1\] must be a Flax module or a callable, got 3"),
        (
            (NETWORK, NETWORK, MEMORY),
            {"scan_layers": True},
            "Stack.scan_layers needs blocks that are one layer over and over",
        ),
    ],
)
def test_bad_field_is_named(blocks, fields, words, as_a_user):
    with pytest.raises(ValueError, match=words):
        Stack(blocks, **fields)


def test_layers_that_change_the_width_are_not_scanned():
    words = r"Stack.scan_layers needs .* shape \(2, 5, 4\) .* shape \(2, 5, 6\)"
    with pytest.raises(ValueError, match=words):
        shapes(Stack((Projection(6),) * 2, scan_layers=True))
