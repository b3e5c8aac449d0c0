"""Cells made elsewhere, as torsos that keep the laws."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax.networks import RNN, CellAdapter, MemaxCell, Memoroid, as_sequence_model
from tests import laws


class Decaying:
    """A plain object over a batch."""

    def initialize_carry(self, key, input_shape):
        return {"total": jnp.zeros(input_shape), "count": jnp.zeros(input_shape[0], int)}

    def __call__(self, carry, inputs):
        carry = {"total": 0.9 * carry["total"] + inputs, "count": carry["count"] + 1}
        return carry, jnp.tanh(carry["total"]) / carry["count"][:, None]


class OneRow(nn.Module):
    """A Flax module that is no Flax cell and reads one vector."""

    features: int = 4

    @nn.compact
    def __call__(self, carry, inputs):
        assert inputs.ndim == 1
        carry = jnp.tanh(nn.Dense(self.features)(jnp.concatenate([carry, inputs])))
        return carry, carry

    @nn.nowrap
    def initialize_carry(self, key, input_shape):
        return jnp.ones(self.features)


ADAPTED = {
    "plain": as_sequence_model(Decaying()),
    "one_row": as_sequence_model(OneRow(), batched=False),
}


@pytest.mark.parametrize("law", [laws.cut, laws.reset, laws.causal, laws.row, laws.finite])
@pytest.mark.parametrize("name", ADAPTED)
def test_an_adapted_cell_keeps_the_law(name, law):
    law(ADAPTED[name])


def test_a_flax_cell_that_is_adapted_computes_what_it_does_itself():
    inputs = jax.random.normal(jax.random.key(0), (2, 5, 3))
    cell = nn.SimpleCell(features=4)
    itself, adapted = RNN(cell), RNN(CellAdapter(cell))
    params = itself.init(jax.random.key(1), inputs)
    wrapped = {"params": {"cell": params["params"]}}
    shapes = jax.eval_shape(adapted.init, jax.random.key(1), inputs)
    assert jax.tree.map(jnp.shape, wrapped) == jax.tree.map(jnp.shape, shapes)
    for one, other in zip(
        adapted.apply(wrapped, inputs), itself.apply(params, inputs), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_each_kind_of_cell_becomes_a_torso():
    assert isinstance(as_sequence_model(nn.GRUCell(features=4)).cell, nn.GRUCell)
    assert isinstance(as_sequence_model(Decaying()).cell, CellAdapter)
    torso = RNN(nn.GRUCell(features=4))
    assert as_sequence_model(torso) is torso


def without(method):
    cell = type("Broken", (Decaying,), {method: None})
    return cell()


class Dataless(Decaying):
    def initialize_carry(self, key, input_shape):
        return jnp.zeros(4)


class Grows(Decaying):
    def __call__(self, carry, inputs):
        return jnp.concatenate([carry["total"]] * 2, axis=1), inputs


class Outputs(Decaying):
    def __call__(self, carry, inputs):
        return inputs


@jax.tree_util.register_pytree_node_class
class Holding(Decaying):
    weight = jnp.ones(3)

    def tree_flatten(self):
        return (self.weight,), None

    @classmethod
    def tree_unflatten(cls, _, leaves):
        return cls()


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (without("initialize_carry"), r"method initialize_carry\(key, input_shape\) -> carry, got"),
        (without("__call__"), r"__call__\(carry, inputs\) -> \(carry, outputs\), got Broken"),
        (Decaying, r"got the class Decaying: write Decaying\(\.\.\.\)"),
        (RNN(nn.GRUCell(features=4)), "RNN, which takes done: it is a sequence model already"),
        (Holding(), "Holding, a pytree whose arrays would not be trained"),
    ],
)
def test_what_is_no_cell_is_refused_with_the_signature_wanted(cell, words):
    with pytest.raises(ValueError, match=rf"CellAdapter\.cell must .*{words}"):
        CellAdapter(cell)


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (Dataless(), r"must return arrays of shape \(2, \.\.\.\), got \[4\]; .*batched=False"),
        (Grows(), r"must return a carry like the one given, .*got \[2, 6\]"),
        (Outputs(), r"__call__ must return \(carry, outputs\), got "),
    ],
)
def test_a_cell_that_returns_something_else_is_refused_when_it_is_run(cell, words):
    with pytest.raises(ValueError, match=words):
        as_sequence_model(cell).apply({}, jnp.ones((2, 5, 3)))


def test_a_model_that_is_not_of_memax_is_refused():
    with pytest.raises(ValueError, match=r"MemaxCell\.model must be a memax.linen .*got GRUCell"):
        MemaxCell(nn.GRUCell(features=4))


@pytest.mark.parametrize("law", [laws.cut, laws.reset, laws.causal, laws.row])
@pytest.mark.parametrize("name", ["LRU", "FART"])
def test_a_semigroup_of_memax_keeps_the_law(name, law):
    semigroups = pytest.importorskip("memax.linen.semigroups." + name.lower())
    model = getattr(semigroups, name)
    model = model(
        algebra=model.default_algebra(recurrent_size=laws.FEATURES),
        scan=model.default_scan(),
        # memax adds the input to the output, and its LRU annotates both widths as one.
        hidden_size=laws.FEATURES,
        recurrent_size=laws.FEATURES,
    )
    torso = as_sequence_model(model)
    assert isinstance(torso, Memoroid)
    law(torso)


def test_a_semigroup_computes_what_memax_does():
    lru = pytest.importorskip("memax.linen.semigroups.lru").LRU
    model = lru(
        algebra=lru.default_algebra(recurrent_size=3),
        scan=lru.default_scan(),
        hidden_size=3,
        recurrent_size=3,
    )
    inputs = jax.random.normal(jax.random.key(0), (1, 7, 3))
    done = jnp.zeros((1, 7), bool).at[0, 4].set(True)
    carry = model.zero_carry()
    params = jax.jit(model.init)(jax.random.key(1), carry, (inputs[0], done[0]))
    carry = model.apply(params, method="initialize_carry")
    _, expected = jax.jit(model.apply)(params, carry, (inputs[0], done[0]))
    wrapped = {"params": {"cell": {"model": params["params"]}}}
    _, outputs = jax.jit(as_sequence_model(model).apply)(wrapped, inputs, done)
    np.testing.assert_allclose(outputs[0], expected, atol=1e-5)
