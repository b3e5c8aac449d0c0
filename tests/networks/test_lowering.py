import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from jax import export
from jax.extend.mlir import ir
from jax.extend.mlir.dialects import stablehlo

from memorax.experiments.presets.torsos import TORSOS, make_torso
from memorax.ops.attention import ACCELERATOR_BLOCK_SIZE
from memorax.ops.gated_outer_product import CHUNK_SIZE

BATCH, TIME, FEATURES = 2, 1024, 8

CHUNKS, BLOCKS = math.ceil(TIME / CHUNK_SIZE), math.ceil(TIME / ACCELERATOR_BLOCK_SIZE)
# A scan over chunks, and one over the steps of all chunks at once that adds up decays.
IN_CHUNKS = 2 * CHUNKS + 2 * CHUNK_SIZE
SEQUENTIAL_STEPS = {
    "recurrent": 2 * TIME,
    # An associative scan is no loop: its levels lie in the program one by one.
    "diagonal": 0,
    "outer product": IN_CHUNKS,
    "delta rule": IN_CHUNKS,
    "attention": 2 * BLOCKS,
    # A layer of mLSTM and one of sLSTM.
    "mixed": IN_CHUNKS + 2 * TIME,
    "no memory": 0,
}
"""Loop iterations of a layer's forward and backward pass, one after another."""
NO_DECAYS = {"linear_attention", "delta_net"}
"""Torsos whose state is kept whole, so that nothing is added up."""


def sequential_steps(program: bytes) -> int:
    """Return how many iterations of loops a lowered program executes one after another."""
    context = ir.Context()
    stablehlo.register_dialect(context)
    with context:
        module = stablehlo.deserialize_portable_artifact(context, program)
        functions = {op.attributes["sym_name"].value: op for op in module.body.operations}

        def trip_count(loop):
            (compare,) = (op for op in loop.regions[0].blocks[0] if op.name.endswith("compare"))
            # Loops of jax.lax.scan count from 0 to a constant.
            limit = compare.operands[1].owner
            return int(ir.DenseElementsAttr(limit.attributes["value"]).get_splat_value().value)

        def steps_of(op):
            if op.name == "func.call":
                return steps_of(functions[op.attributes["callee"].value])
            blocks = [block for region in op.regions for block in region.blocks]
            inside = sum(steps_of(op.operation) for block in blocks for op in block.operations)
            return trip_count(op) * (1 + inside) if op.name == "stablehlo.while" else inside

        return steps_of(functions["main"])


@pytest.fixture
def accelerator(monkeypatch):
    """Let ``auto`` choose as it does where programs are compiled for an accelerator."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")


@pytest.mark.parametrize("name", TORSOS)
def test_each_torso_is_lowered_for_accelerators_with_few_sequential_steps(name, accelerator):
    kind = TORSOS[name].kind
    num_layers = None if TORSOS[name].num_layers is None or kind == "mixed" else 1
    torso = make_torso(name, FEATURES, num_layers)
    inputs, done = jnp.zeros((BATCH, TIME, FEATURES)), jnp.zeros((BATCH, TIME), bool)
    params = jax.eval_shape(torso.init, jax.random.key(0), inputs)

    def loss(params, inputs, done):
        if isinstance(torso, nn.Sequential):
            return (torso.apply(params, inputs) ** 2).sum()
        _, outputs = torso.apply(params, inputs, done=done)
        return (outputs**2).sum()

    gradients = jax.jit(jax.grad(loss, argnums=(0, 1)))
    exported = export.export(gradients, platforms=["cuda", "tpu"])(params, inputs, done)
    assert exported.platforms == ("cuda", "tpu")
    expected = SEQUENTIAL_STEPS[kind] - (2 * CHUNK_SIZE if name in NO_DECAYS else 0)
    assert sequential_steps(exported.mlir_module_serialized) == expected
