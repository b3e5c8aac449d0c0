"""What holds for every head: in a network, of its initializers, and of its precision."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax.networks import RNN, FeatureExtractor, Network, heads
from tests.networks.samples import BATCH, CONTINUOUS_ACTION, OBSERVATION, REWARD, TIME, draw

# As in the user's guide, to the letter.
GUIDE = """
from memorax.networks import heads

# Discrete
heads.Categorical(action_dim=4)
heads.DiscreteQNetwork(action_dim=4)

# Continuous
heads.SquashedGaussian(action_dim=2)
heads.TwinContinuousQNetwork()

# Value
heads.VNetwork()
heads.HLGaussVNetwork(num_bins=101)
"""

HEADS = {
    "categorical": heads.Categorical(3),
    "gaussian": heads.Gaussian(3),
    "gaussian_state_dependent": heads.Gaussian(3, state_dependent_scale=True),
    "squashed_gaussian": heads.SquashedGaussian(3),
    "deterministic": heads.Deterministic(3),
    "discrete_q": heads.DiscreteQNetwork(3, hidden_dims=(6,)),
    "dueling_q": heads.DiscreteQNetwork(3, dueling=True),
    "c51": heads.C51QNetwork(3, num_atoms=7),
    "continuous_q": heads.ContinuousQNetwork(hidden_dims=(6,)),
    "twin_q": heads.TwinContinuousQNetwork(hidden_dims=(6,)),
    "v": heads.VNetwork(),
    "hl_gauss": heads.HLGaussVNetwork(num_bins=7),
}
EVALUATES_ACTIONS = heads.ContinuousQNetwork | heads.TwinContinuousQNetwork
FEATURES = jax.random.normal(jax.random.key(0), (BATCH, TIME, 16))
each_head = pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)


def inputs(head):
    return (FEATURES, CONTINUOUS_ACTION) if isinstance(head, EVALUATES_ACTIONS) else (FEATURES,)


def shapes(head):
    return jax.eval_shape(head.init, jax.random.key(0), *inputs(head))


def kernels(variables):
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves if leaf.ndim == 2}


def test_the_guides_heads_are_made_as_written():
    exec(GUIDE, {})


@each_head
def test_kernels_are_orthogonal_by_default_with_the_gain_of_their_layer(head):
    variables = jax.device_get(jax.jit(head.init)(jax.random.key(0), *inputs(head)))
    nearly_uniform = heads.Categorical | heads.Gaussian | heads.SquashedGaussian
    nearly_uniform |= heads.Deterministic
    nearly_uniform |= heads.C51QNetwork | heads.HLGaussVNetwork
    for name, kernel in kernels(variables).items():
        last = 0.01 if isinstance(head, nearly_uniform) else 1.0
        gain = np.sqrt(2) if "hidden" in name else last
        product = kernel.T @ kernel if kernel.shape[0] >= kernel.shape[1] else kernel @ kernel.T
        np.testing.assert_allclose(product, gain**2 * np.eye(len(product)), atol=1e-5 * gain**2)


@each_head
def test_initializers_are_the_users_to_choose(head):
    constant = nn.initializers.constant
    hidden = {"hidden_kernel_init": constant(0.4)} if hasattr(head, "hidden_kernel_init") else {}
    head = head.clone(kernel_init=constant(0.3), bias_init=constant(0.2), **hidden)
    variables = jax.jit(head.init)(jax.random.key(0), *inputs(head))
    for name, kernel in kernels(variables).items():
        np.testing.assert_allclose(kernel, 0.4 if "hidden" in name else 0.3)
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        name = jax.tree_util.keystr(path)
        if leaf.ndim == 1:
            np.testing.assert_allclose(leaf, 0.0 if "log_scale" in name else 0.2)


@each_head
def test_half_precision_computes_what_is_said_in_full_and_double_in_double(head):
    said = jax.jit(head.apply)(draw(shapes(head)), *inputs(head))
    half = jax.jit(head.clone(dtype=jnp.bfloat16).apply)(draw(shapes(head)), *inputs(head))
    for ours, full in zip(jax.tree.leaves(half), jax.tree.leaves(said), strict=True):
        assert ours.dtype == full.dtype == jnp.float32
        scale = max(1.0, np.abs(full).max())
        np.testing.assert_allclose(ours, full, rtol=0, atol=3e-2 * scale)
    with jax.enable_x64(True):
        head = head.clone(param_dtype=jnp.float64)
        doubles = [values.astype(jnp.float64) for values in inputs(head)]
        variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), draw(shapes(head)))
        double = jax.jit(head.apply)(variables, *doubles)
        for ours, full in zip(jax.tree.leaves(double), jax.tree.leaves(said), strict=True):
            assert ours.dtype == jnp.float64
            np.testing.assert_allclose(ours, full, rtol=1e-4, atol=1e-4)


def make_network(head):
    return Network(FeatureExtractor(nn.Dense(8)), RNN(nn.GRUCell(features=8)), head)


def apply_network(head, **given):
    model = make_network(head)
    first = {"action": CONTINUOUS_ACTION}
    params = draw(
        jax.eval_shape(lambda key: model.init(key, OBSERVATION, **first), jax.random.key(0))
    )
    return jax.jit(model.apply)(params, OBSERVATION, **given)[1]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda head: head,
        lambda head: heads.Horde(
            head, {"reward": heads.GVF(heads.VNetwork(), lambda transition: transition.reward, 0.9)}
        ),
    ],
    ids=["alone", "in_a_horde"],
)
def test_only_a_head_that_evaluates_actions_gets_one_the_candidate_or_the_last(wrap):
    critic = wrap(heads.TwinContinuousQNetwork(hidden_dims=(4,)))
    action, other = CONTINUOUS_ACTION, -CONTINUOUS_ACTION
    of_action = heads.main_output(apply_network(critic, action=action))
    of_candidate = heads.main_output(apply_network(critic, action=other, candidate_action=action))
    of_other = heads.main_output(apply_network(critic, action=other))
    np.testing.assert_array_equal(of_action, of_candidate)
    assert np.abs(of_action - of_other).max() > 0.01
    value = wrap(heads.VNetwork())
    np.testing.assert_array_equal(
        heads.main_output(apply_network(value, action=action)),
        heads.main_output(apply_network(value)),
    )
    with pytest.raises(ValueError, match="the head VNetwork takes no candidate_action"):
        apply_network(value, candidate_action=action)


def test_a_candidates_gradient_reaches_it():
    slope = jax.grad(
        lambda action: apply_network(
            heads.ContinuousQNetwork(hidden_dims=(4,)), action=action, candidate_action=action
        ).sum()
    )(CONTINUOUS_ACTION)
    assert np.abs(slope).max() > 0


def test_a_mask_reaches_the_head_that_takes_it_and_no_other():
    mask = jnp.ones((BATCH, TIME, 3), bool).at[..., 1].set(False)
    distribution = apply_network(heads.Categorical(3), action_mask=mask)
    np.testing.assert_array_equal(distribution.probs[..., 1], 0)
    for head, name in ((heads.Gaussian(3), "Gaussian"), (nn.Dense(2), "Dense"), (nn.relu, "relu")):
        with pytest.raises(ValueError, match=f"the head {name} takes no action_mask"):
            apply_network(head, action_mask=mask)


def test_a_critic_without_an_action_is_told_what_is_missing():
    message = "ContinuousQNetwork evaluates actions: pass candidate_action=, or action="
    with pytest.raises(ValueError, match=message):
        apply_network(heads.ContinuousQNetwork(), reward=REWARD)
