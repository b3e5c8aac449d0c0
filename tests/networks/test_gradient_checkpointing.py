import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax.networks import (
    RNN,
    FeatureExtractor,
    Memoroid,
    MinGRUCell,
    MinGRUConfig,
    MoE,
    Network,
    SelfAttention,
    SelfAttentionConfig,
    Stack,
    TopKRouter,
    heads,
)
from memorax.networks.network import segment_length

BATCH, FEATURES = 2, 8
TORSOS = {
    "gru": RNN(nn.GRUCell(FEATURES)),
    "min_gru": Memoroid(MinGRUCell(MinGRUConfig(FEATURES))),
    "attention": SelfAttention(SelfAttentionConfig(FEATURES, 2, context_length=5)),
}


def network(torso):
    extractor = FeatureExtractor(observation_extractor=nn.Dense(FEATURES))
    return Network(extractor, torso, heads.VNetwork())


def sequences(time):
    numbers = np.random.default_rng(0)
    observation = jnp.asarray(numbers.standard_normal((BATCH, time, 3)), jnp.float32)
    return observation, jnp.asarray(numbers.random((BATCH, time)) < 0.1)


def loss_of(network):
    def loss(params, observation, done):
        _, values = network.apply(params, observation, done=done)
        return (values**2).mean()

    return loss


@pytest.mark.parametrize("name", TORSOS)
def test_segments_change_neither_values_nor_gradients(name):
    # Segments of 4 steps, and a shorter one at the end.
    time = 19
    plain = network(TORSOS[name])
    checkpointed = plain.clone(gradient_checkpointing=True)
    observation, done = sequences(time)
    params = checkpointed.init(jax.random.key(0), observation, done=done)
    expected, results = (
        jax.jit(jax.value_and_grad(loss_of(one)))(params, observation, done)
        for one in (plain, checkpointed)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), results, expected)


def test_a_segment_is_near_the_root_of_time():
    assert [segment_length(time) for time in (2, 19, 128, 1024, 4096)] == [1, 4, 16, 32, 64]


def test_long_sequences_take_half_of_the_memory():
    plain = network(RNN(nn.GRUCell(32)))
    observation, done = sequences(4096)
    params = plain.init(jax.random.key(0), observation[:, :1])

    def temporary_bytes(network):
        program = jax.jit(jax.grad(loss_of(network))).lower(params, observation, done).compile()
        return program.memory_analysis().temp_size_in_bytes

    assert temporary_bytes(plain.clone(gradient_checkpointing=True)) <= temporary_bytes(plain) / 2


def test_losses_of_a_whole_call_are_refused(as_a_user):
    torso = Stack(
        (RNN(nn.GRUCell(FEATURES)), MoE((nn.Dense(FEATURES), nn.Dense(FEATURES)), TopKRouter(2, 1)))
    )
    checkpointed = network(torso).clone(gradient_checkpointing=True)
    observation, done = sequences(16)
    params = checkpointed.init(jax.random.key(0), observation, done=done)
    with pytest.raises(ValueError, match="gradient_checkpointing must be False for a torso that"):
        checkpointed.apply({"params": params["params"]}, observation, done=done, mutable=["losses"])
