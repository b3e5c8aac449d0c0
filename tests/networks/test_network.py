import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax.networks import RNN, FeatureExtractor, Network, SequenceModelWrapper, heads
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

# As the user's guide begins, to the letter.
GUIDE = """
import flax.linen as nn
from memorax.networks import FeatureExtractor, Network, RNN, heads

actor = Network(
    feature_extractor=FeatureExtractor(
        observation_extractor=nn.Sequential((nn.Dense(64), nn.relu)),
    ),
    torso=RNN(cell=nn.GRUCell(features=64)),
    head=heads.Categorical(action_dim=4),
)
"""


def test_the_guides_first_network_runs_as_written():
    scope = {}
    exec(GUIDE, scope)
    actor = scope["actor"]
    params = jax.jit(actor.init)(jax.random.key(0), OBSERVATION)
    carry, distribution = actor.apply(params, OBSERVATION)
    assert carry.shape == (BATCH, 64)
    np.testing.assert_allclose(distribution.probs, np.full((BATCH, TIME, 4), 1 / 4), atol=0.05)
    _, distribution = actor.apply(params, OBSERVATION[:, :1], initial_carry=carry)
    assert distribution.logits.shape == (BATCH, 1, 4)


def make_network(torso, action_dim=ACTIONS):
    extractor = FeatureExtractor(
        observation_extractor=nn.Dense(4),
        action_extractor=nn.Dense(3),
        reward_extractor=nn.Dense(3),
        done_extractor=nn.Dense(3),
        action_dim=action_dim,
    )
    return Network(extractor, torso, heads.Categorical(ACTIONS))


@pytest.mark.parametrize(
    ("action", "other_action", "action_dim"),
    [
        (DISCRETE_ACTION, jnp.zeros_like(DISCRETE_ACTION), ACTIONS),
        (CONTINUOUS_ACTION, jnp.full_like(CONTINUOUS_ACTION, jnp.nan), None),
    ],
    ids=["discrete", "continuous"],
)
def test_a_whole_network_forgets_the_episode_before(action, other_action, action_dim):
    model = make_network(RNN(nn.LSTMCell(features=8)), action_dim)
    params = draw_params(model, OBSERVATION, DONE, action, REWARD)
    row, start = START

    @jax.jit
    def logits_with_gradients(observation, action, reward, carry):
        def loss(observation, reward, carry):
            _, distribution = model.apply(params, observation, DONE, action, reward, carry)
            logits = distribution.logits[row, start:]
            return jnp.sin(3 * logits).sum(), logits

        gradient = jax.grad(loss, argnums=(0, 1, 2), has_aux=True)
        return gradient(observation, reward, carry)

    # The action and reward at the first step are those of the episode before as well.
    carry = jax.tree.map(jnp.ones_like, model.initialize_carry(BATCH))
    (to_observation, to_reward, to_carry), logits = logits_with_gradients(
        OBSERVATION, action, REWARD, carry
    )
    assert np.abs(to_observation[row, start]).min() > 0
    np.testing.assert_array_equal(to_observation[row, :start], 0)
    np.testing.assert_array_equal(to_reward[row, : start + 1], 0)
    for leaf in to_carry:
        np.testing.assert_array_equal(leaf[row], 0)

    _, poisoned = logits_with_gradients(
        OBSERVATION.at[row, :start].set(jnp.nan),
        action.at[row, : start + 1].set(other_action[row, : start + 1]),
        REWARD.at[row, : start + 1].set(jnp.nan),
        jax.tree.map(lambda leaf: leaf.at[row].set(jnp.nan), carry),
    )
    np.testing.assert_array_equal(poisoned, logits)

    _, alone = jax.jit(model.apply)(
        params, *(values[row : row + 1, start:] for values in (OBSERVATION, DONE, action, REWARD))
    )
    np.testing.assert_allclose(alone.logits[0], logits, rtol=1e-5, atol=1e-6)


def test_acting_step_by_step_is_training_on_the_whole():
    model = make_network(RNN(nn.GRUCell(features=8)))
    arguments = OBSERVATION, DONE, DISCRETE_ACTION, REWARD
    params = draw_params(model, *arguments)
    act = jax.jit(model.apply)
    last_carry, distribution = act(params, *arguments)
    carry, logits = model.initialize_carry(BATCH), []
    for t in range(TIME):
        carry, step = act(params, *(values[:, t : t + 1] for values in arguments), carry)
        logits.append(step.logits)
    np.testing.assert_allclose(
        np.concatenate(logits, axis=1), distribution.logits, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(carry, last_carry, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "torso",
    [
        nn.Dense(8),
        nn.Sequential((nn.Dense(8), nn.relu)),
        SequenceModelWrapper(nn.Dense(8)),
        nn.relu,
    ],
    ids=["dense", "sequential", "wrapper", "function"],
)
def test_plain_modules_are_torsos_without_a_carry(torso):
    model = make_network(torso)
    arguments = OBSERVATION, DONE, DISCRETE_ACTION, REWARD
    params = draw_params(model, *arguments)
    assert model.initialize_carry(BATCH) == ()
    for initial_carry in (None, ()):
        carry, distribution = model.apply(params, *arguments, initial_carry)
        assert carry == ()
        assert distribution.logits.shape == (BATCH, TIME, ACTIONS)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"torso": nn.GRUCell(4)},
            r"Network.torso must be a sequence model, got the cell GRUCell, .* use RNN\(cell=",
        ),
        (
            {"torso": nn.RNN(nn.GRUCell(4))},
            "Network.torso must be a sequence model, got flax.linen.RNN, "
            ".* use memorax.networks.RNN",
        ),
        (
            {"torso": nn.Dense},
            r"Network.torso must be an instance of a module, got the class Dense: write Dense\(",
        ),
        ({"torso": RNN}, r"Network.torso must be an instance .* the class RNN: write RNN\("),
        ({"torso": 3}, "Network.torso must be a Flax module or a callable, got 3"),
        ({"feature_extractor": FeatureExtractor}, "Network.feature_extractor must be an instance"),
        ({"feature_extractor": None}, "Network.feature_extractor must be .* callable, got None"),
        ({"head": heads.VNetwork}, "Network.head must be an instance .* the class VNetwork"),
    ],
)
def test_what_is_no_part_is_refused(fields, words, as_a_user):
    parts = {"feature_extractor": nn.relu, "torso": nn.relu, "head": nn.relu}
    with pytest.raises(ValueError, match=words):
        Network(**{**parts, **fields})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"done": DONE[:2]},
            r"Network: done must have shape \(batch, time\) = \(3, 6\), got \(2, 6\)",
        ),
        ({"done": DONE.astype(int)}, "Network: done must have dtype bool, got int32"),
        (
            {"initial_carry": jnp.zeros((2, 8))},
            r"initial_carry must be like .*float32\[3, 8\], got float32\[2, 8\]",
        ),
        ({"observation": OBSERVATION[:, :0], "done": None}, r"at least one row, step and feature"),
    ],
    ids=["done_of_another_batch", "done_of_integers", "carry_of_another_batch", "time_0"],
)
def test_inputs_that_do_not_fit_are_refused(arguments, words, as_a_user):
    extractor = FeatureExtractor(observation_extractor=lambda observation: observation)
    model = Network(extractor, RNN(nn.GRUCell(features=8)), heads.VNetwork())
    arguments = {"observation": OBSERVATION, "done": DONE, **arguments}
    with pytest.raises(ValueError, match=words):
        jax.eval_shape(lambda key: model.init(key, **arguments), jax.random.key(0))


@pytest.mark.parametrize("input_shape", [7, (7, 4)], ids=["batch_size", "input_shape"])
@pytest.mark.parametrize("key", [None, jax.random.key(1)], ids=["default_key", "key"])
def test_a_carry_is_initialized_by_batch_size_or_shape(input_shape, key):
    model = make_network(RNN(nn.LSTMCell(features=8)))
    carry = model.initialize_carry(input_shape, key=key)
    jax.tree.map(
        lambda leaf: np.testing.assert_array_equal(leaf, np.zeros((7, 8), np.float32), strict=True),
        carry,
    )
    assert jax.tree.structure(carry) == jax.tree.structure((0, 0))


def test_the_fresh_carry_is_what_a_network_starts_from_even_if_it_is_drawn():
    cell = nn.SimpleCell(features=8, carry_init=nn.initializers.normal(1.0))
    model = Network(FeatureExtractor(nn.relu), RNN(cell), nn.relu)
    params = draw_params(model, OBSERVATION)
    fresh = model.initialize_carry(BATCH)
    assert np.abs(fresh).max() > 0.1
    np.testing.assert_array_equal(
        model.apply(params, OBSERVATION)[1],
        model.apply(params, OBSERVATION, initial_carry=fresh)[1],
    )


def test_networks_are_light_to_import():
    script = (
        "import sys, memorax.networks\n"
        "heavy = {name.split('.')[0] for name in sys.modules}\n"
        "heavy &= {'gymnax', 'orbax', 'matplotlib'}\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
