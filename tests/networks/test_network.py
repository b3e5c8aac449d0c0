import subprocess
import sys

import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from memorax.networks import RNN, FeatureExtractor, Network, SequenceModelWrapper, heads

BATCH, TIME = 3, 6
OBSERVATION = jax.random.normal(jax.random.key(0), (BATCH, TIME, 4))
ACTION = jax.random.randint(jax.random.key(1), (BATCH, TIME), 0, 5)
REWARD = jax.random.normal(jax.random.key(2), (BATCH, TIME))
DONE = jnp.zeros((BATCH, TIME), bool).at[1, 2].set(True)


def identity(values):
    return values


def all_extractors(**fields):
    return FeatureExtractor(
        observation_extractor=identity,
        action_extractor=identity,
        reward_extractor=identity,
        done_extractor=identity,
        **fields,
    )


def test_features_stand_side_by_side():
    features = all_extractors(action_dim=5).apply({}, OBSERVATION, DONE, ACTION, REWARD)
    keep = ~np.asarray(DONE)[..., None]
    expected = np.concatenate(
        [OBSERVATION, np.eye(5)[ACTION] * keep, REWARD[..., None] * keep, DONE[..., None]], -1
    )
    np.testing.assert_allclose(features, expected)


def test_actions_without_action_dim_are_numbers():
    extractor = FeatureExtractor(observation_extractor=identity, action_extractor=identity)
    features = extractor.apply({}, OBSERVATION, action=ACTION)
    np.testing.assert_allclose(features[..., 4], ACTION)
    features = extractor.apply({}, OBSERVATION, action=OBSERVATION[..., :2])
    np.testing.assert_allclose(features[..., 4:], OBSERVATION[..., :2])


def test_nothing_of_the_episode_before_is_seen():
    extractor = all_extractors(action_dim=5)
    reward = REWARD.at[1, 2].set(jnp.nan)
    other = extractor.apply({}, OBSERVATION, DONE, ACTION.at[1, 2].add(1) % 5, reward)
    plain = extractor.apply({}, OBSERVATION, DONE, ACTION, REWARD)
    np.testing.assert_array_equal(other[1, 2], plain[1, 2])


def test_observations_may_be_any_pytree():
    extractor = FeatureExtractor(observation_extractor=lambda seen: seen["a"] + seen["b"])
    features = extractor.apply({}, {"a": OBSERVATION, "b": OBSERVATION})
    np.testing.assert_allclose(features, 2 * OBSERVATION)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"reward": REWARD}, "action_extractor: pass action="),
        ({"action": ACTION}, "reward_extractor: pass reward="),
        ({"action": REWARD, "reward": REWARD}, "with action_dim, action must be whole numbers"),
        ({"action": ACTION[:2], "reward": REWARD}, r"\(3, 6\), got \(2, 6\)"),
        ({"action": ACTION, "reward": REWARD[..., None]}, r"\(3, 6\), got \(3, 6, 1\)"),
        ({"done": DONE[:, :2]}, r"\(3, 6\), got \(3, 2\)"),
    ],
)
def test_transitions_that_do_not_fit_are_refused(arguments, words, as_a_user):
    with pytest.raises(ValueError, match=words):
        all_extractors(action_dim=5).apply({}, OBSERVATION, **arguments)


def network(torso):
    extractor = FeatureExtractor(
        observation_extractor=nn.Dense(4),
        action_extractor=nn.Dense(3),
        reward_extractor=nn.Dense(3),
        done_extractor=nn.Dense(3),
        action_dim=5,
    )
    return Network(extractor, torso, heads.Categorical(5, kernel_init=nn.initializers.orthogonal()))


def test_a_whole_network_forgets_at_an_episodes_start():
    model = network(RNN(nn.GRUCell(features=8)))
    params = model.init(jax.random.key(3), OBSERVATION, DONE, ACTION, REWARD)
    _, plain = model.apply(params, OBSERVATION, DONE, ACTION, REWARD)
    observation = OBSERVATION.at[1, :2].set(jnp.nan)
    reward = REWARD.at[1, :3].set(jnp.nan)
    action = ACTION.at[1, :3].set(0)
    _, poisoned = model.apply(params, observation, DONE, action, reward)
    np.testing.assert_array_equal(poisoned.logits[1, 2:], plain.logits[1, 2:])


@pytest.mark.parametrize("torso", [nn.Dense(8), SequenceModelWrapper(nn.Dense(8)), nn.relu])
def test_plain_modules_are_torsos_without_a_carry(torso):
    model = network(torso)
    params = model.init(jax.random.key(3), OBSERVATION, DONE, ACTION, REWARD)
    carry, distribution = model.apply(params, OBSERVATION, DONE, ACTION, REWARD)
    assert carry == model.initialize_carry(BATCH) == ()
    assert distribution.logits.shape == (BATCH, TIME, 5)


@pytest.mark.parametrize(
    ("torso", "words"),
    [
        (nn.GRUCell(4), "Network.torso .* use RNN"),
        (nn.RNN(nn.GRUCell(4)), "Network.torso .*use memorax.networks.RNN"),
        (nn.Dense, "Network.torso must be an instance .* class Dense"),
        (3, "Network.torso must be a Flax module or a callable, got 3"),
    ],
)
def test_what_is_no_torso_is_refused(torso, words, as_a_user):
    with pytest.raises(ValueError, match=words):
        network(torso)


def test_a_carry_is_initialised_by_batch_size_or_shape():
    model = network(RNN(nn.LSTMCell(features=8)))
    for shape in (7, (7, 4)):
        assert jax.tree.map(jnp.shape, model.initialize_carry(shape)) == ((7, 8), (7, 8))


def test_networks_are_light_to_import():
    script = (
        "import sys, memorax.networks\n"
        "assert not {'gymnax', 'orbax', 'matplotlib'} & set(sys.modules), 'heavy'"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def apply_head(head):
    features = jax.random.normal(jax.random.key(5), (BATCH, TIME, 16))
    return head.init_with_output(jax.random.key(6), features)[0]


def test_the_first_policy_is_nearly_uniform():
    distribution = apply_head(heads.Categorical(5))
    assert isinstance(distribution, distrax.Categorical)
    np.testing.assert_allclose(distribution.probs, 0.2, atol=0.05)


def test_gaussian_log_probabilities_are_those_of_independent_normals():
    distribution = apply_head(heads.Gaussian(2, log_scale_init=nn.initializers.constant(-0.5)))
    action = distribution.sample(seed=jax.random.key(0))
    assert action.shape == (BATCH, TIME, 2)
    expected = scipy.stats.norm.logpdf(action, distribution.mean(), np.exp(-0.5)).sum(-1)
    np.testing.assert_allclose(distribution.log_prob(action), expected, rtol=1e-4)


def test_values_have_no_feature_axis():
    assert apply_head(heads.VNetwork()).shape == (BATCH, TIME)
    loss = heads.VNetwork().loss(jnp.array([[1.0]]), jnp.array([[3.0]]))
    np.testing.assert_allclose(loss, [[2.0]])


@pytest.mark.parametrize("head", [heads.Categorical, heads.Gaussian])
def test_a_head_without_actions_is_refused(head, as_a_user):
    with pytest.raises(ValueError, match=f"{head.__name__}.action_dim .* at least 1, got 0"):
        head(0)
