import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax.networks import heads

FEATURES = jax.random.normal(jax.random.key(0), (2, 3, 8))


def make():
    return heads.ActorCritic(
        actor=heads.Categorical(4, hidden_dims=(5,)), critic=heads.VNetwork(hidden_dims=(6,))
    )


def test_policy_and_value_are_those_of_the_two_heads_alone():
    head = make()
    params = head.init(jax.random.key(1), FEATURES)["params"]
    output = head.apply({"params": params}, FEATURES)
    policy = head.actor.apply({"params": params["actor"]}, FEATURES)
    value = head.critic.apply({"params": params["critic"]}, FEATURES)
    np.testing.assert_array_equal(output.policy.logits, policy.logits)
    np.testing.assert_array_equal(output.value, value)
    assert output.value.shape == (2, 3)


def test_an_action_mask_reaches_the_actor():
    head = make()
    params = head.init(jax.random.key(1), FEATURES)
    mask = jnp.zeros((2, 3, 4), bool).at[..., 2].set(True)
    output = head.apply(params, FEATURES, action_mask=mask)
    assert (output.policy.mode() == 2).all()


def test_parts_are_found_under_a_horde_and_in_heads_of_their_own():
    head = make()
    demon = heads.GVF(heads.VNetwork(), lambda transition: transition.reward, 0.5)
    for outer in (head, heads.Horde(head=head, demons={"reward": demon})):
        assert heads.policy_head(outer) is head.actor
        assert heads.value_head(outer) is head.critic
        output = outer.init_with_output(jax.random.key(1), FEATURES)[0]
        assert heads.policy_output(output).logits.shape == (2, 3, 4)
        assert heads.value_output(output).shape == (2, 3)
    alone = heads.VNetwork()
    assert heads.policy_head(alone) is heads.value_head(alone) is alone
    assert heads.policy_output(3) == heads.value_output(3) == 3


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"actor": 3, "critic": heads.VNetwork()}, "ActorCritic.actor must be .* got 3"),
        (
            {"actor": heads.Categorical(2), "critic": heads.Categorical(2)},
            "ActorCritic.critic must value states and have a loss, .* got Categorical",
        ),
        (
            {"actor": heads.Categorical(2), "critic": heads.TwinContinuousQNetwork()},
            "ActorCritic.critic must value states and have a loss, .* got TwinContinuousQNetwork",
        ),
        (
            {
                "actor": heads.Horde(
                    heads.Categorical(2), {"a": heads.GVF(heads.VNetwork(), lambda t: t.reward, 0)}
                ),
                "critic": heads.VNetwork(),
            },
            r"ActorCritic.actor must not be a Horde: write Horde\(head=ActorCritic",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(fields, words, as_a_user):
    with pytest.raises(ValueError, match=words):
        heads.ActorCritic(**fields)


@pytest.mark.parametrize(
    "head",
    [
        heads.Categorical(4, hidden_dims=(5, 6)),
        heads.Gaussian(4, hidden_dims=(5, 6)),
        heads.SquashedGaussian(4, hidden_dims=(5, 6)),
        heads.VNetwork(hidden_dims=(5, 6)),
        heads.HLGaussVNetwork(num_bins=4, hidden_dims=(5, 6)),
    ],
    ids=lambda head: type(head).__name__,
)
def test_hidden_layers_of_a_head_stand_between_features_and_output(head):
    shapes = jax.eval_shape(head.init, jax.random.key(0), FEATURES)["params"]
    hidden = {name: shapes[name]["kernel"].shape for name in shapes if "hidden" in name}
    assert sorted(hidden.values()) == [(5, 6), (8, 5)]
    layers = {name: part for name, part in shapes.items() if name != "log_scale"}
    outputs = {layers[name]["kernel"].shape[0] for name in layers if name not in hidden}
    assert outputs == {6}
    with pytest.raises(ValueError, match=rf"{type(head).__name__}.hidden_dims\[0\] must be"):
        head.clone(hidden_dims=(0,))
