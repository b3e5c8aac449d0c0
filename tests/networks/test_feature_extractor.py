import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax.networks import FeatureExtractor
from tests.networks.samples import (
    ACTIONS,
    BATCH,
    CONTINUOUS_ACTION,
    DISCRETE_ACTION,
    DONE,
    OBSERVATION,
    REWARD,
    START,
    TIME,
    draw_params,
)


def identity(values):
    return values


def all_extractors(make=lambda: identity, **fields):
    # An instance for each: Flax shares the parameters of one that stands in two places.
    return FeatureExtractor(
        observation_extractor=make(),
        action_extractor=make(),
        reward_extractor=make(),
        done_extractor=make(),
        **fields,
    )


def only_action(**fields):
    return FeatureExtractor(
        observation_extractor=lambda observation: observation[..., :0],
        action_extractor=identity,
        **fields,
    )


def test_features_stand_side_by_side():
    features = all_extractors(action_dim=ACTIONS).apply(
        {}, OBSERVATION, DONE, DISCRETE_ACTION, REWARD
    )
    keep = ~np.asarray(DONE)[..., None]
    expected = np.concatenate(
        [
            OBSERVATION,
            np.eye(ACTIONS)[DISCRETE_ACTION] * keep,
            REWARD[..., None] * keep,
            DONE[..., None],
        ],
        axis=-1,
    )
    np.testing.assert_array_equal(features, expected.astype(np.float32), strict=True)


def test_every_extractor_may_be_a_module_with_parameters_of_its_own():
    extractor = all_extractors(lambda: nn.Dense(3), action_dim=ACTIONS)
    features, variables = jax.eval_shape(
        extractor.init_with_output,
        jax.random.key(0),
        OBSERVATION,
        DONE,
        DISCRETE_ACTION,
        REWARD,
    )
    assert features.shape == (BATCH, TIME, 12)
    assert jax.tree.map(lambda leaf: leaf.shape[0], variables["params"]) == {
        "observation_extractor": {"kernel": 4, "bias": 3},
        "action_extractor": {"kernel": ACTIONS, "bias": 3},
        "reward_extractor": {"kernel": 1, "bias": 3},
        "done_extractor": {"kernel": 1, "bias": 3},
    }


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (DISCRETE_ACTION, DISCRETE_ACTION[..., None]),
        (DISCRETE_ACTION.astype(float), DISCRETE_ACTION[..., None]),
        (jnp.stack(2 * [DISCRETE_ACTION], axis=-1), jnp.stack(2 * [DISCRETE_ACTION], axis=-1)),
        (CONTINUOUS_ACTION, CONTINUOUS_ACTION),
    ],
    ids=["discrete", "floats_without_feature_axis", "several_discrete", "continuous"],
)
def test_actions_without_action_dim_are_numbers(action, expected):
    features = only_action().apply({}, OBSERVATION, action=action)
    np.testing.assert_array_equal(features, expected.astype(np.float32), strict=True)


@pytest.mark.parametrize(
    ("action", "fields"),
    [
        (DISCRETE_ACTION, {"action_dim": ACTIONS}),
        (DISCRETE_ACTION, {}),
        (CONTINUOUS_ACTION, {}),
        (CONTINUOUS_ACTION.at[START].set(jnp.nan), {}),
    ],
    ids=["one_hot", "discrete", "continuous", "nan"],
)
def test_the_previous_action_is_zero_where_an_episode_starts(action, fields):
    features = only_action(**fields).apply({}, OBSERVATION, done=DONE, action=action)
    expected = only_action(**fields).apply({}, OBSERVATION, action=action).at[START].set(0)
    np.testing.assert_array_equal(features, expected)
    elsewhere = np.abs(features).sum(-1)[~np.asarray(DONE)]
    assert (elsewhere > 0).all()


def test_across_episodes_the_last_action_and_reward_are_shown_at_the_next_ones_start():
    arguments = {"action": DISCRETE_ACTION, "reward": REWARD}
    extractor = all_extractors(action_dim=ACTIONS, across_episodes=True)
    hiding = all_extractors(action_dim=ACTIONS)
    shown = extractor.apply({}, OBSERVATION, done=DONE, **arguments)
    np.testing.assert_array_equal(
        shown[..., :-1], hiding.apply({}, OBSERVATION, **arguments)[..., :-1]
    )
    np.testing.assert_array_equal(shown[..., -1], DONE)


def test_a_nan_of_the_episode_before_leaves_no_trace_in_features_and_gradients():
    extractor = all_extractors(lambda: nn.Dense(3))
    variables = draw_params(extractor, OBSERVATION, DONE, CONTINUOUS_ACTION, REWARD)

    def slopes(action, reward):
        def loss(variables, action, reward):
            features = extractor.apply(variables, OBSERVATION, DONE, action, reward)
            return jnp.sin(features).sum(), features

        return jax.grad(loss, argnums=(0, 1, 2), has_aux=True)(variables, action, reward)

    plain = slopes(CONTINUOUS_ACTION, REWARD)
    poisoned = slopes(CONTINUOUS_ACTION.at[START].set(jnp.nan), REWARD.at[START].set(jnp.nan))
    jax.tree.map(np.testing.assert_array_equal, poisoned, plain)
    (_, to_action, to_reward), _ = plain
    np.testing.assert_array_equal(to_action[START], 0)
    np.testing.assert_array_equal(to_reward[START], 0)


def test_without_done_no_episode_starts():
    arguments = {"action": DISCRETE_ACTION, "reward": REWARD}
    extractor = all_extractors(action_dim=ACTIONS)
    np.testing.assert_array_equal(
        extractor.apply({}, OBSERVATION, **arguments),
        extractor.apply({}, OBSERVATION, done=jnp.zeros_like(DONE), **arguments),
    )


def test_what_no_extractor_asks_for_is_not_looked_at():
    extractor = FeatureExtractor(observation_extractor=identity)
    features = extractor.apply(
        {}, OBSERVATION, done=DONE, action=CONTINUOUS_ACTION * jnp.nan, reward=REWARD * jnp.nan
    )
    np.testing.assert_array_equal(features, OBSERVATION)


def test_rewards_may_be_whole_numbers():
    extractor = FeatureExtractor(
        observation_extractor=identity, reward_extractor=lambda reward: reward / 2
    )
    reward = jnp.ones((BATCH, TIME), int)
    features = extractor.apply({}, OBSERVATION, reward=reward)
    np.testing.assert_array_equal(features[..., 4], 0.5 * reward)


def test_observations_may_be_any_pytree():
    extractor = FeatureExtractor(
        observation_extractor=lambda seen: jnp.concatenate(
            [seen["vector"], seen["images"][0].mean((-1, -2))[..., None]], axis=-1
        )
    )
    images = jnp.ones((BATCH, TIME, 2, 2))
    features = extractor.apply({}, {"vector": OBSERVATION, "images": (images,)})
    np.testing.assert_array_equal(features, np.concatenate([OBSERVATION, images[..., 0, :1]], -1))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"observation_extractor": nn.Dense},
            r"FeatureExtractor.observation_extractor must be an instance .* class Dense: "
            r"write Dense\(...\)",
        ),
        ({"action_extractor": nn.Dense}, "FeatureExtractor.action_extractor must be an instance"),
        (
            {"reward_extractor": 3},
            "FeatureExtractor.reward_extractor must be a Flax module or a callable, got 3",
        ),
        (
            {"done_extractor": "dense"},
            "FeatureExtractor.done_extractor must be a Flax module or a callable, got 'dense'",
        ),
        (
            {"action_dim": 0},
            "FeatureExtractor.action_dim must be an integer of at least 1, got 0",
        ),
    ],
    ids=["class", "class_for_actions", "number", "string", "action_dim"],
)
def test_what_is_no_extractor_is_refused(fields, words, as_a_user):
    with pytest.raises(ValueError, match=words):
        FeatureExtractor(**{"observation_extractor": identity, **fields})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"action": None}, "has an action_extractor: pass action="),
        ({"reward": None}, "has a reward_extractor: pass reward="),
        (
            {"action": REWARD},
            "with action_dim, action must be integers of shape .* got float32",
        ),
        (
            {"action": DISCRETE_ACTION[..., None]},
            r"action must be integers of shape \(batch, time\) = \(3, 6\), "
            r"got int32 of shape \(3, 6, 1\)",
        ),
        (
            {"action": DISCRETE_ACTION[:2]},
            r"action must lead with \(batch, time\) = \(3, 6\), got \(2, 6\)",
        ),
        (
            {"reward": REWARD[..., None]},
            r"reward must have shape \(batch, time\) = \(3, 6\), got \(3, 6, 1\)",
        ),
        (
            {"done": DONE[:, :2]},
            r"done must have shape \(batch, time\) = \(3, 6\), got \(3, 2\)",
        ),
        ({"done": DONE.astype(float)}, "done must have dtype bool, got float32"),
        (
            {"observation": {"here": OBSERVATION, "there": OBSERVATION[:, 0]}},
            r"observation must lead with the same \(batch, time\), got .*\(3, 6, 4\), \(3, 4\)",
        ),
        ({"observation": {}}, r"observation must lead with the same \(batch, time\), got \[\]"),
        ({"observation": REWARD[0]}, r"must lead with the same \(batch, time\), got \[\(6,\)\]"),
    ],
)
def test_transitions_that_do_not_fit_are_refused(arguments, words, as_a_user):
    fitting = {
        "observation": OBSERVATION,
        "done": DONE,
        "action": DISCRETE_ACTION,
        "reward": REWARD,
    }
    with pytest.raises(ValueError, match=words):
        all_extractors(action_dim=ACTIONS).apply({}, **{**fitting, **arguments})


@pytest.mark.parametrize(
    ("extractor", "words"),
    [
        (lambda values: values[..., 0], r"= \(3, 6\), got \(3, 6\)"),
        (lambda values: values[:, :1], r"= \(3, 6\), got \(3, 1, 4\)"),
    ],
    ids=["feature_axis_lost", "time_lost"],
)
def test_an_extractor_that_returns_no_features_of_each_step_is_refused(extractor, words, as_a_user):
    message = r"observation_extractor must return \(batch, time, features\) with .*" + words
    with pytest.raises(ValueError, match=message):
        FeatureExtractor(observation_extractor=extractor).apply({}, OBSERVATION)


def test_a_joint_extractor_reads_all_parts_side_by_side():
    parts = all_extractors(action_dim=ACTIONS)
    joint = all_extractors(action_dim=ACTIONS, joint_extractor=lambda values: 2 * values[..., ::-1])
    inputs = ({}, OBSERVATION, DONE, DISCRETE_ACTION, REWARD)
    np.testing.assert_array_equal(joint.apply(*inputs), 2 * parts.apply(*inputs)[..., ::-1])


def test_only_a_joint_extractor_can_single_out_an_observation_at_an_episodes_start():
    # "One at the start" minus "one later" would have to be what "zero at the start" minus "zero
    # later" is, if the parts were only added up by the next linear map.
    observation = jnp.array([0.0, 1.0, 0.0, 1.0])[:, None, None]
    done = jnp.array([False, False, True, True])[:, None]

    def interaction(joint_extractor):
        extractor = FeatureExtractor(
            observation_extractor=nn.Sequential((nn.Dense(8), nn.relu)),
            done_extractor=identity,
            joint_extractor=joint_extractor,
        )
        features = extractor.init_with_output(jax.random.key(0), observation, done)[0][:, 0]
        return jnp.abs(features[3] - features[2] - features[1] + features[0]).max()

    assert interaction(None) < 1e-6
    assert interaction(nn.Sequential((nn.Dense(8), nn.relu))) > 0.01


def test_a_joint_extractor_that_loses_an_axis_is_refused(as_a_user):
    extractor = all_extractors(joint_extractor=lambda values: values[..., 0])
    with pytest.raises(ValueError, match=r"FeatureExtractor.joint_extractor must return \(batch"):
        extractor.apply({}, OBSERVATION, DONE, DISCRETE_ACTION, REWARD)
    with pytest.raises(ValueError, match=r"FeatureExtractor\.joint_extractor must be"):
        all_extractors(joint_extractor=3)
