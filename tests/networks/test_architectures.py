import jax
import jax.numpy as jnp
import pytest

from memorax.experiments.presets.torsos import TORSOS, make_torso
from memorax.networks import FeatureExtractor, Network, architectures, heads
from tests import laws
from tests.networks.samples import draw_params

# As in the user's guide, to the letter.
GUIDE = """
from memorax.networks import (
    FFN, ALiBi, GatedResidual, PreNorm,
    SegmentRecurrence, SelfAttention, SelfAttentionConfig, Stack,
)

features, num_heads, num_layers = 64, 4, 2

attention = GatedResidual(PreNorm(SegmentRecurrence(
    SelfAttention(config=SelfAttentionConfig(features=features, num_heads=num_heads, context_length=128, positional_embedding=ALiBi(num_heads))),
    memory_length=64, features=features,
)))
ffn = GatedResidual(PreNorm(FFN(features=features, expansion_factor=4)))
torso = Stack(blocks=(attention, ffn) * num_layers)
"""  # noqa: E501

DEEP = [
    architectures.gtrxl,
    architectures.transformer_xl,
    architectures.gpt2,
    architectures.xlstm,
    architectures.mamba2,
    architectures.s5,
    architectures.min_gru,
    architectures.gru,
    architectures.lstm,
    architectures.simple,
    architectures.shm,
    architectures.rtu,
    architectures.ffm,
    architectures.lru,
    architectures.mlstm,
    architectures.slstm,
    architectures.attention,
    architectures.linear_attention,
    architectures.mamba3,
    architectures.delta_net,
    architectures.gated_delta_net,
    architectures.kimi_delta_attention,
    architectures.gated_linear_attention,
    architectures.rwkv7,
    architectures.rg_lru,
]


def size(model):
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((2, 3, 16)))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def test_the_guides_torso_remembers():
    scope = {}
    exec(GUIDE, scope)
    torso = scope["torso"]
    inputs = jax.random.normal(jax.random.key(0), (2, 5, 64))
    params = draw_params(torso, inputs)
    read = jax.jit(torso.apply)
    _, outputs = read(params, inputs)
    carry, _ = read(params, inputs[:, :4])
    _, last = read(params, inputs[:, 4:], initial_carry=carry)
    assert outputs.shape == (2, 5, 64)
    assert jnp.abs(last[:, 0] - outputs[:, 4]).max() < 1e-5 * jnp.abs(outputs).max()
    half = dict(scope)
    exec("torso = Stack(blocks=(attention, ffn))", half)
    widened = jnp.ones((2, 3, 64))
    sizes = [
        sum(
            leaf.size
            for leaf in jax.tree.leaves(jax.eval_shape(model.init, jax.random.key(0), widened))
        )
        for model in (half["torso"], torso)
    ]
    assert sizes[1] == 2 * sizes[0]


@pytest.mark.parametrize("architecture", DEEP, ids=lambda function: function.__name__)
def test_layers_are_independent(architecture):
    # Two layers are what repeats of an xLSTM.
    two, four, six = (size(architecture(16, layers)) for layers in (2, 4, 6))
    assert four - two == six - four > two / 3


def test_an_xlstm_alternates():
    names = [str(block.module.module) for block in architectures.xlstm(16, 4).blocks[1:-1]]
    kinds = [next(kind for kind in ("mLSTM", "sLSTM", "GLU") if kind in name) for name in names]
    assert kinds == ["mLSTM", "sLSTM", "GLU"] * 2


@pytest.mark.parametrize("law", [laws.cut, laws.reset])
def test_an_xlstm_of_both_kinds_of_layers_keeps_the_laws(law):
    # That of the registry has one layer: half precision rounds the slopes of two by up to 9%.
    law(architectures.xlstm(8, 2, num_heads=2))


@pytest.mark.parametrize("architecture", DEEP, ids=lambda function: function.__name__)
def test_no_layer_is_no_architecture(architecture):
    words = f"{architecture.__name__}.num_layers must be .* at least 1, got 0"
    with pytest.raises(ValueError, match=words):
        architecture(16, 0)


@pytest.mark.parametrize("name", TORSOS)
def test_an_agent_can_be_made_of_each_by_name(name):
    network = Network(
        feature_extractor=FeatureExtractor(observation_extractor=lambda observation: observation),
        torso=make_torso(name, 16),
        head=heads.VNetwork(),
    )
    observation = jnp.ones((2, 3, 5))

    def act():
        carry = network.initialize_carry(2)
        variables = network.init(jax.random.key(0), observation)
        after, value = network.apply(variables, observation, initial_carry=carry)
        return carry, after, value

    carry, after, value = jax.eval_shape(act)
    assert carry == after
    assert all(leaf.shape[0] == 2 for leaf in jax.tree.leaves(carry))
    assert value.shape == (2, 3)
    hash(network)
