import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from memorax.networks import heads
from tests.networks.samples import draw_params

BATCH, TIME, FEATURES = 2, 4, 8
INPUTS = jax.random.normal(jax.random.key(0), (BATCH, TIME, FEATURES))
MASK = jnp.ones((BATCH, TIME, 3), bool).at[..., 0].set(False)
CANDIDATE = jax.random.normal(jax.random.key(2), (BATCH, TIME, 2))


def transitions():
    return heads.DemonTransition(
        observation=INPUTS,
        action=jnp.ones((BATCH, TIME), int),
        reward=jax.random.normal(jax.random.key(1), (BATCH, TIME)),
        next_observation=2 * INPUTS,
        terminated=jnp.zeros((BATCH, TIME), bool).at[0, 1].set(True),
    )


def first_feature(transition):
    return transition.next_observation[..., 0]


def while_positive(transition):
    return jnp.where(transition.observation[..., 1] > 0, 0.8, 0.0)


def demons():
    return {
        "reward": heads.GVF(heads.VNetwork(), lambda transition: transition.reward, 0.9),
        "feature": heads.GVF(heads.HLGaussVNetwork(11), first_feature, while_positive),
    }


def test_a_demons_target_is_its_cumulant_and_what_it_expects_next():
    transition = transitions()
    next_prediction = jax.random.normal(jax.random.key(3), (BATCH, TIME))
    demon = demons()["feature"]
    target = demon.target(transition, next_prediction.at[0, 1].set(jnp.nan))
    for row, time in np.ndindex(BATCH, TIME):
        discount = 0.8 if INPUTS[row, time, 1] > 0 else 0.0
        expected = 2 * INPUTS[row, time, 0]
        if (row, time) != (0, 1):
            expected += discount * next_prediction[row, time]
        np.testing.assert_allclose(target[row, time], expected, rtol=1e-5, atol=1e-6)
    slope = jax.grad(lambda prediction: demon.target(transition, prediction).sum())
    np.testing.assert_array_equal(slope(next_prediction), 0)


def test_demons_predict_beside_a_head_that_says_what_it_says_alone():
    main = heads.Categorical(3)
    horde = heads.Horde(main, demons())
    params = draw_params(horde, INPUTS)["params"]
    output = horde.apply({"params": params}, INPUTS)
    alone = main.apply({"params": params["head"]}, INPUTS)
    np.testing.assert_array_equal(output.head.logits, alone.logits)
    assert heads.main_output(output) is output.head
    for name, demon in demons().items():
        prediction = demon.apply({"params": params[f"predictors_{name}"]}, INPUTS)
        expected = heads.expected_value(prediction)
        assert expected.shape == (BATCH, TIME)
        np.testing.assert_array_equal(heads.predictions(output)[name], expected)
    # Nor does what the demons have learned enter the main head.
    slope = jax.grad(
        lambda params: horde.apply({"params": params}, INPUTS).head.logits[..., 0].sum()
    )(params)
    assert np.abs(slope.pop("head")["logits"]["kernel"]).max() > 0
    for leaf in jax.tree.leaves(slope):
        np.testing.assert_array_equal(leaf, 0)


def test_demons_and_main_head_do_not_share_an_instances_parameters():
    head = heads.VNetwork()
    demon = heads.GVF(head, reward, 0.9)
    horde = heads.Horde(head, {"one": demon, "same": demon, "other": heads.GVF(head, reward, 0.5)})
    output = horde.apply(draw_params(horde, INPUTS), INPUTS)
    values = [output.head, *output.demons.values()]
    assert len({float(value[0, 0]) for value in values}) == 4


def test_a_hordes_loss_is_the_sum_of_its_demons():
    horde = heads.Horde(heads.VNetwork(), demons())
    output = horde.apply(draw_params(horde, INPUTS), INPUTS)
    target = horde.targets(transitions(), heads.predictions(output))
    assert set(target) == {"reward", "feature"}
    expected = sum(
        demon.loss(output.demons[name], target[name]) for name, demon in demons().items()
    )
    assert expected.shape == (BATCH, TIME)
    np.testing.assert_allclose(horde.loss(output, target), expected, rtol=1e-6)
    values = heads.predictions(output)["reward"]
    expected = 0.5 * (values - target["reward"]) ** 2
    np.testing.assert_allclose(
        horde.demons["reward"].loss(output.demons["reward"], target["reward"]), expected, rtol=1e-5
    )


def test_an_algorithm_need_not_tell_a_horde_from_another_head():
    head = heads.VNetwork()
    assert heads.main_head(heads.Horde(head, demons())) == heads.main_head(head) == head
    assert heads.main_output(INPUTS) is INPUTS
    assert heads.predictions(INPUTS) == {}


def test_a_horde_hands_on_what_its_main_head_takes():
    horde = heads.Horde(heads.Categorical(3), demons())
    params = draw_params(horde, INPUTS)
    output = horde.apply(params, INPUTS, action_mask=MASK)
    np.testing.assert_array_equal(output.head.probs[..., 0], 0)
    horde = heads.Horde(heads.ContinuousQNetwork(hidden_dims=(4,)), demons())
    output = horde.apply(draw_params(horde, INPUTS, CANDIDATE), INPUTS, CANDIDATE)
    assert output.head.shape == (BATCH, TIME)
    with pytest.raises(ValueError, match="the head VNetwork takes no candidate_action"):
        heads.Horde(heads.VNetwork(), demons()).init(jax.random.key(0), INPUTS, CANDIDATE)


def test_a_horde_is_hashable_and_its_output_a_pytree():
    cumulants = demons()
    horde = heads.Horde(heads.VNetwork(), cumulants)
    assert hash(horde) == hash(heads.Horde(heads.VNetwork(), cumulants))
    params = draw_params(horde, INPUTS)
    jitted = jax.jit(horde.apply)(params, INPUTS)
    assert isinstance(jitted, heads.HordeOutput)
    np.testing.assert_allclose(
        jitted.demons["feature"].mean, horde.apply(params, INPUTS).demons["feature"].mean, rtol=1e-5
    )


@pytest.mark.parametrize(
    "head",
    [heads.VNetwork(), heads.HLGaussVNetwork(41, -1.0, 5.0)],
    ids=["value", "distribution"],
)
def test_demons_come_to_know_what_is_to_come_on_a_chain(head):
    # States 0, 1, 2, 3, one step each, paying 1 at the last, and the same again without an end.
    states = jnp.asarray([[0, 1, 2, 3], [0, 1, 2, 3]])
    following = (states + 1) % 4
    transition = heads.DemonTransition(
        observation=states,
        action=jnp.zeros_like(states),
        reward=jnp.where(states == 3, 1.0, 0.0),
        next_observation=following,
        terminated=jnp.asarray([[False] * 3 + [True], [False] * 4]),
    )
    rows = jnp.asarray([[0], [1]])
    features = jax.nn.one_hot(states + 4 * rows, 8)
    next_features = jax.nn.one_hot(following + 4 * rows, 8)
    horde = heads.Horde(
        heads.VNetwork(),
        {
            "reward": heads.GVF(head, lambda transition: transition.reward, 0.5),
            # Steps up to state 3, whence nothing is counted.
            "steps": heads.GVF(
                head,
                lambda transition: jnp.where(transition.observation == 3, 0.0, 1.0),
                lambda transition: jnp.where(transition.next_observation == 3, 0.0, 1.0),
            ),
        },
    )
    params = horde.init(jax.random.key(0), features)
    optimizer = optax.adam(optax.exponential_decay(0.1, 500, 0.3))

    @jax.jit
    def learn(params):
        def loss(params):
            after = heads.predictions(horde.apply(params, next_features))
            target = horde.targets(transition, after)
            return horde.loss(horde.apply(params, features), target).mean()

        def step(learner, _):
            params, state = learner
            updates, state = optimizer.update(jax.grad(loss)(params), state)
            return (optax.apply_updates(params, updates), state), None

        params, _ = jax.lax.scan(step, (params, optimizer.init(params)), length=3000)[0]
        return heads.predictions(horde.apply(params, features))

    learned = learn(params)
    ending = np.array([1 / 8, 1 / 4, 1 / 2, 1])
    # Endless: each state is worth what it would be if it ended, again every four steps.
    endless = ending / (1 - 1 / 16)
    np.testing.assert_allclose(learned["reward"], [ending, endless], atol=0.03)
    # Of state 3 nothing is counted, but what it expects next is: 3 more steps, unless it ended.
    np.testing.assert_allclose(learned["steps"], [[3, 2, 1, 0], [3, 2, 1, 3]], atol=0.05)


def reward(transition):
    return transition.reward


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: heads.GVF(heads.VNetwork()), "GVF.cumulant must be a function .* got None"),
        (lambda: heads.GVF(heads.VNetwork(), 1.0, 0.9), "GVF.cumulant must be a function .* 1.0"),
        (lambda: heads.GVF(heads.VNetwork(), reward), "GVF.discount must be a number from 0 to 1"),
        (lambda: heads.GVF(heads.VNetwork(), reward, 1.01), "GVF.discount must be .* got 1.01"),
        (lambda: heads.GVF(heads.VNetwork(), reward, -0.1), "GVF.discount must be .* got -0.1"),
        (lambda: heads.GVF(heads.VNetwork, reward, 0.9), "GVF.head must be an instance"),
        (
            lambda: heads.GVF(heads.Categorical(2), reward, 0.9),
            r"GVF.head must have a loss, such as VNetwork\(\), got Categorical",
        ),
        (
            lambda: heads.GVF(heads.DiscreteQNetwork(2), reward, 0.9),
            "GVF.head must say how good a state is, .* got DiscreteQNetwork",
        ),
        (
            lambda: heads.GVF(heads.TwinContinuousQNetwork(), reward, 0.9),
            "GVF.head must say how good a state is, .* got TwinContinuousQNetwork",
        ),
        (lambda: heads.Horde(heads.VNetwork(), {}), "Horde.demons must be a mapping .* got {}"),
        (
            lambda: heads.Horde(heads.VNetwork(), (demons()["reward"],)),
            "Horde.demons must be a map",
        ),
        (
            lambda: heads.Horde(heads.VNetwork(), {"v": heads.VNetwork()}),
            "Horde.demons must be GVF by name, got VNetwork as 'v'",
        ),
        (
            lambda: heads.Horde(heads.Horde(heads.VNetwork(), demons()), demons()),
            "Horde.head must not be a Horde itself",
        ),
        (lambda: heads.Horde(None, demons()), "Horde.head must be .* callable, got None"),
    ],
)
def test_what_is_no_demon_is_refused(make, words, as_a_user):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    ("cumulant", "discount", "words"),
    [
        (
            lambda transition: transition.observation,
            0.9,
            r"GVF.cumulant must return .* \(2, 4, 8\)",
        ),
        (reward, lambda transition: 0.9, r"GVF.discount must return an array .* got shape \(\)"),
    ],
    ids=["cumulant", "discount"],
)
def test_a_signal_of_another_shape_is_refused(cumulant, discount, words, as_a_user):
    demon = heads.GVF(heads.VNetwork(), cumulant, discount)
    with pytest.raises(ValueError, match=words):
        demon.target(transitions(), jnp.zeros((BATCH, TIME)))
