import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax.networks import (
    FFN,
    RNN,
    FeatureExtractor,
    MoE,
    Network,
    PreNorm,
    Residual,
    RL2Wrapper,
    SelfAttention,
    SelfAttentionConfig,
    Stack,
    TopKRouter,
    heads,
    inspect,
)
from tests.networks.samples import ACTIONS, DISCRETE_ACTION, DONE, OBSERVATION, REWARD, draw_params

BATCH, TIME = OBSERVATION.shape[:2]
FEATURES, CONTEXT = 4, 3


def network(torso, **extractors):
    return Network(
        feature_extractor=FeatureExtractor(
            observation_extractor=nn.Sequential((nn.Dense(FEATURES), nn.tanh)), **extractors
        ),
        torso=torso,
        head=heads.Categorical(action_dim=ACTIONS),
    )


def gru():
    return RNN(cell=nn.GRUCell(features=FEATURES))


def attention():
    return SelfAttention(SelfAttentionConfig(FEATURES, num_heads=2, context_length=CONTEXT))


def count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def test_a_summary_counts_the_parameters_and_carry_of_every_part():
    model = network(gru())
    params = jax.eval_shape(model.init, jax.random.key(0), OBSERVATION)
    p = params["params"]
    summary = inspect.summary(model, params)
    paths = {".".join(part.path): (part.kind, part.parameters) for part in summary.parts}
    assert paths == {
        "": ("Network", count(params)),
        "feature_extractor": ("FeatureExtractor", 4 * FEATURES + FEATURES),
        "feature_extractor.observation_extractor": ("Sequential", 4 * FEATURES + FEATURES),
        "feature_extractor.observation_extractor.layers_0": ("Dense", 4 * FEATURES + FEATURES),
        "torso": ("RNN", count(p["torso"])),
        "torso.cell": ("GRUCell", count(p["torso"])),
        "head": ("Categorical", count(p["head"])),
    }
    assert summary[""].carry_bytes == summary["torso"].carry_bytes == 4 * FEATURES
    assert summary["head"].carry_bytes == summary["feature_extractor"].carry_bytes == 0


def test_a_summary_looks_into_stacks():
    layer = Residual(PreNorm(gru())), Residual(PreNorm(FFN(FEATURES)))
    model = Stack(blocks=layer * 2)
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 1, FEATURES)))
    summary = inspect.summary(model, params)
    layers = [summary[f"layers_{index}"] for index in range(4)]
    assert [layer.parameters for layer in layers] == [
        count(params["params"][f"layers_{index}"]) for index in range(4)
    ]
    assert summary[""].parameters == sum(layer.parameters for layer in layers)
    assert [layer.carry_bytes for layer in layers] == [4 * FEATURES, 0, 4 * FEATURES, 0]
    assert summary["layers_2.module.module"].kind == "RNN"
    assert len(inspect.summary(model, params, depth=1).parts) == 5


def test_a_summary_looks_into_mixtures_of_experts():
    model = MoE((FFN(FEATURES), gru()), TopKRouter(2))
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 1, FEATURES)))
    summary = inspect.summary(model, params)
    parts = [summary[path] for path in ("expert_0", "expert_1", "router")]
    assert all(part.parameters for part in parts)
    assert summary[""].parameters == sum(part.parameters for part in parts)
    assert [part.carry_bytes for part in parts] == [0, 4 * FEATURES, 0]


def test_a_summary_counts_bytes_of_every_dtype():
    wrapped = RL2Wrapper(RNN(cell=nn.LSTMCell(features=FEATURES)), steps_per_trial=4)
    assert inspect.summary(wrapped)[""].carry_bytes == 2 * 4 * FEATURES + 4


def test_a_summary_is_printed_as_a_table():
    model = network(nn.Dense(300))
    params = jax.eval_shape(model.init, jax.random.key(0), OBSERVATION)
    lines = str(inspect.summary(model, params, depth=1)).splitlines()
    assert [line.split() for line in lines] == [
        ["part", "kind", "parameters", "carry", "bytes", "per", "environment"],
        ["all", "Network", "3,025", "0"],
        ["feature_extractor", "FeatureExtractor", "20", "0"],
        ["torso", "Dense", "1,500", "0"],
        ["head", "Categorical", "1,505", "0"],
    ]
    assert len({len(line) for line in lines}) == 1
    without = str(inspect.summary(model, depth=1)).splitlines()
    assert [line.split() for line in without[1:3]] == [
        ["all", "Network", "0"],
        ["feature_extractor", "FeatureExtractor", "0"],
    ]


@pytest.mark.parametrize("done", [None, DONE], ids=["no_reset", "reset"])
def test_the_horizon_is_the_norm_of_the_jacobian(done):
    model = gru()
    params = draw_params(model, OBSERVATION)

    def last_outputs(inputs):
        return model.apply(params, inputs, done)[1][:, -1]

    jacobian = np.asarray(jax.jit(jax.jacrev(last_outputs))(OBSERVATION), np.float64)
    norms = [
        [np.sqrt((jacobian[row, :, row, TIME - 1 - back] ** 2).sum()) for row in range(BATCH)]
        for back in range(TIME)
    ]
    horizon = inspect.memory_horizon(model, params, OBSERVATION, done)
    np.testing.assert_allclose(horizon, np.mean(norms, axis=1), rtol=1e-5)


def test_the_influence_is_the_norm_of_the_jacobian_between_each_two_steps():
    model = gru()
    params = draw_params(model, OBSERVATION)
    jacobian = jax.jit(jax.jacrev(lambda inputs: model.apply(params, inputs, DONE)[1]))
    jacobian = np.asarray(jacobian(OBSERVATION), np.float64)
    expected = [np.sqrt((jacobian[row, :, :, row] ** 2).sum((1, 3))) for row in range(BATCH)]
    influence = inspect.input_influence(model, params, OBSERVATION, DONE)
    np.testing.assert_allclose(influence, expected, rtol=1e-5, atol=1e-12)
    # Nothing later, and nothing of an episode before.
    episode = np.cumsum(DONE, axis=1)
    same = (episode[:, :, None] == episode[:, None, :]) & np.tri(TIME, dtype=bool)
    np.testing.assert_array_equal(np.asarray(influence) > 0, same)
    horizon = inspect.memory_horizon(model, params, OBSERVATION, DONE)
    np.testing.assert_allclose(influence[:, -1, ::-1].mean(0), horizon, rtol=1e-5)


def test_the_horizon_of_a_network_is_that_of_its_torso():
    extractors = {f"{name}_extractor": nn.Dense(2) for name in ("action", "reward", "done")}
    model = network(gru(), **extractors)
    transitions = DONE, DISCRETE_ACTION, REWARD
    params = draw_params(model, OBSERVATION, *transitions)
    features = jax.jit(model.feature_extractor.apply)(
        {"params": params["params"]["feature_extractor"]}, OBSERVATION, *transitions
    )
    expected = inspect.memory_horizon(
        model.torso, {"params": params["params"]["torso"]}, features, DONE
    )
    actual = inspect.memory_horizon(model, params, OBSERVATION, *transitions)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_a_memory_is_not_seen_beyond_its_reach():
    for model, reach in ((attention(), CONTEXT), (nn.Dense(FEATURES), 1)):
        params = draw_params(model, OBSERVATION)
        horizon = inspect.memory_horizon(model, params, OBSERVATION)
        np.testing.assert_array_equal(horizon > 0, np.arange(TIME) < reach)


def test_the_horizon_is_measured_where_its_square_vanishes():
    model = nn.Dense(2, use_bias=False)
    params = {"params": {"kernel": jnp.full((4, 2), 1e-30)}}
    horizon = inspect.memory_horizon(model, params, OBSERVATION)
    np.testing.assert_allclose(horizon[0], 8**0.5 * 1e-30, rtol=1e-5)


def test_horizons_are_drawn(tmp_path):
    horizons = {"GRU": jnp.array([1.0, 0.1, 0.01]), "none": jnp.array([1.0, 0.0, 0.0])}
    inspect.plot_memory_horizon(horizons, tmp_path / "horizon.png")
    assert (tmp_path / "horizon.png").read_bytes().startswith(b"\x89PNG")


def test_attention_weights_are_those_of_the_equation():
    model = attention()
    params = draw_params(model, OBSERVATION)
    inputs = np.asarray(OBSERVATION, np.float64)

    def into_heads(name):
        kernel = np.asarray(params["params"][name]["kernel"], np.float64)
        return (inputs @ kernel).reshape(BATCH, TIME, 2, -1)

    query, key = into_heads("query"), into_heads("key")
    expected = np.zeros((BATCH, 2, TIME, CONTEXT))
    for row, head, time in np.ndindex(BATCH, 2, TIME):
        back = 0
        while back < min(time + 1, CONTEXT):
            score = query[row, time, head] @ key[row, time - back, head] / 2**0.5
            expected[row, head, time, back] = np.exp(score)
            if DONE[row, time - back]:
                break
            back += 1
    expected /= expected.sum(-1, keepdims=True)
    weights = inspect.attention_weights(model, params, OBSERVATION, DONE)
    assert list(weights) == [""]
    np.testing.assert_allclose(weights[""], expected, rtol=1e-5)


def test_attention_weights_are_found_wherever_they_are():
    model = network(Stack(blocks=(Residual(PreNorm(attention())), FFN(FEATURES)) * 2))
    params = draw_params(model, OBSERVATION)
    weights = inspect.attention_weights(model, params, OBSERVATION)
    assert sorted(weights) == [f"torso.layers_{index}.module.module" for index in (0, 2)]
    carry, _ = jax.jit(model.apply)(params, OBSERVATION[:, :4])
    later = inspect.attention_weights(model, params, OBSERVATION[:, 4:], initial_carry=carry)
    for path, whole in weights.items():
        np.testing.assert_allclose(later[path], whole[:, :, 4:], rtol=1e-5)


def test_attention_weights_of_layers_that_share_parameters_are_told_apart():
    block = Residual(PreNorm(attention()))
    model = Stack(blocks=(block, block), share_parameters=True)
    params = draw_params(model, OBSERVATION)
    weights = inspect.attention_weights(model, params, OBSERVATION)
    assert sorted(weights) == [f"layers_0.module.module[{call}]" for call in (0, 1)]
    first, second = weights.values()
    assert jnp.abs(first - second).max() > 1e-3


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: inspect.summary(nn.relu), "summary needs a Network or a sequence model, got"),
        (
            lambda: inspect.summary(gru(), {"cell": {}}),
            r"summary reads params as network.init returns them, got keys \['cell'\]",
        ),
        (lambda: inspect.memory_horizon(nn.relu, {}, OBSERVATION), "memory_horizon needs a Net"),
        (
            lambda: inspect.memory_horizon(gru(), {}, OBSERVATION, reward=REWARD),
            "memory_horizon: only a Network reads actions and rewards",
        ),
        (lambda: inspect.plot_memory_horizon({}, "horizon.png"), "needs at least one horizon"),
        (
            lambda: inspect.attention_weights(gru(), draw_params(gru(), OBSERVATION), OBSERVATION),
            "attention_weights found no SelfAttention in RNN",
        ),
    ],
)
def test_bad_input_is_refused_by_name(as_a_user, call, words):
    with pytest.raises(ValueError, match=words):
        call()
