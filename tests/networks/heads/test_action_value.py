import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax
import scipy.special

from memorax.networks import heads
from tests.networks.samples import draw, draw_params

BATCH, TIME, FEATURES, ACTIONS = 2, 4, 8, 3
INPUTS = jax.random.normal(jax.random.key(0), (BATCH, TIME, FEATURES))
ACTION = jax.random.randint(jax.random.key(1), (BATCH, TIME), 0, ACTIONS)
CANDIDATE = jax.random.normal(jax.random.key(2), (BATCH, TIME, 2))
REWARD = jnp.asarray([[0.5, -1.0, 30.0, 0.4], [0.0, -30.0, 2.0, 1.0]])
DISCOUNT = jnp.asarray([[0.9, 0.0, 0.9, 0.9], [0.97, 0.9, 0.5, 0.0]])


def layers(params, names, inputs):
    """Apply dense layers in float64, with a ReLU between them."""
    for index, name in enumerate(names):
        inputs = np.maximum(inputs, 0) if index else np.asarray(inputs, np.float64)
        inputs = inputs @ np.asarray(params[name]["kernel"], np.float64) + params[name]["bias"]
    return inputs


@pytest.mark.parametrize("hidden_dims", [(), (7, 5)], ids=["linear", "hidden"])
@pytest.mark.parametrize("dueling", [False, True], ids=["plain", "dueling"])
@pytest.mark.parametrize("atoms", [1, 6], ids=["value", "distribution"])
def test_values_of_every_action_come_from_one_stream_or_two(atoms, dueling, hidden_dims):
    fields = {"dueling": dueling, "hidden_dims": hidden_dims}
    if atoms == 1:
        head = heads.DiscreteQNetwork(ACTIONS, **fields)
    else:
        head = heads.C51QNetwork(ACTIONS, num_atoms=atoms, **fields)
    variables = draw_params(head, INPUTS)
    output = jax.jit(head.apply)(variables, INPUTS)

    def stream(name):
        names = [f"{name}_hidden_{index}" for index in range(len(hidden_dims))] + [name]
        return layers(variables["params"], names, INPUTS).reshape(BATCH, TIME, -1, atoms)

    expected = stream("value")
    if dueling:
        advantage = stream("advantage")
        expected = expected + advantage - advantage.mean(2, keepdims=True)
    assert expected.shape == (BATCH, TIME, ACTIONS, atoms)
    if atoms == 1:
        assert output.shape == (BATCH, TIME, ACTIONS)
        np.testing.assert_allclose(output, expected[..., 0], rtol=1e-5, atol=1e-5)
    else:
        np.testing.assert_allclose(output.logits, expected, rtol=1e-5, atol=1e-5)
        probs = scipy.special.softmax(expected, axis=-1)
        np.testing.assert_allclose(
            output.mean, probs @ np.linspace(-10, 10, atoms), rtol=1e-5, atol=1e-5
        )
    chosen = heads.expected_value(heads.select_action(output, ACTION))
    values = np.asarray(heads.expected_value(output))
    for row, time in np.ndindex(BATCH, TIME):
        np.testing.assert_allclose(
            chosen[row, time], values[row, time, ACTION[row, time]], rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("transform", ["IDENTITY", "SIGNED_HYPERBOLIC"])
def test_the_bellman_target_of_values_is_on_their_scale_and_a_constant(transform):
    head = heads.DiscreteQNetwork(ACTIONS)
    next_values = 3 * jax.random.normal(jax.random.key(3), (BATCH, TIME))

    def target(next_values):
        return head.bellman_target(REWARD, DISCOUNT, next_values, getattr(heads, transform))

    reward, discount, values = (
        np.asarray(part, np.float64) for part in (REWARD, DISCOUNT, next_values)
    )
    if transform == "IDENTITY":
        expected = reward + discount * values
    else:
        # R2D2's h(x) = sign(x) (sqrt(|x| + 1) - 1) + x / 1000, inverted by bisection.
        def h(x):
            return np.sign(x) * (np.sqrt(np.abs(x) + 1) - 1) + 1e-3 * x

        low, high = np.full_like(values, -1e4), np.full_like(values, 1e4)
        for _ in range(100):
            middle = (low + high) / 2
            low, high = (
                np.where(h(middle) < values, middle, low),
                np.where(h(middle) < values, high, middle),
            )
        expected = h(reward + discount * low)
    np.testing.assert_allclose(target(next_values), expected, rtol=1e-3, atol=1e-4)
    if transform == "IDENTITY":
        np.testing.assert_allclose(target(next_values), expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(jax.grad(lambda values: target(values).sum())(next_values), 0)


def distribution(seed, *shape, v_min=-10.0, v_max=10.0):
    logits = 2 * jax.random.normal(jax.random.key(seed), (*shape, 11))
    return heads.ValueDistribution(logits, v_min, v_max)


def test_c51_splits_the_mass_of_each_moved_atom_between_its_neighbours():
    head = heads.C51QNetwork(ACTIONS, num_atoms=11)
    next_output = distribution(4, BATCH, TIME)
    target = jax.jit(head.bellman_target)(REWARD, DISCOUNT, next_output)
    atoms, expected = np.linspace(-10, 10, 11), np.zeros((BATCH, TIME, 11))
    reward, discount, probs = map(np.asarray, (REWARD, DISCOUNT, next_output.probs))
    for row, time in np.ndindex(BATCH, TIME):
        for atom, mass in zip(atoms, probs[row, time], strict=True):
            value = np.clip(reward[row, time] + discount[row, time] * atom, -10, 10)
            place = (float(value) + 10) / 2
            below = min(int(place), 9)
            expected[row, time, below] += mass * (below + 1 - place)
            expected[row, time, below + 1] += mass * (place - below)
    np.testing.assert_allclose(target, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(target.sum(-1), 1, rtol=1e-5)
    project = jax.jit(jax.vmap(jax.vmap(rlax.categorical_l2_project, (0, 0, None)), (0, 0, None)))
    moved = REWARD[..., None] + DISCOUNT[..., None] * next_output.atoms
    np.testing.assert_allclose(
        target, project(moved, next_output.probs, next_output.atoms), rtol=1e-5, atol=1e-7
    )
    slope = jax.grad(lambda output: head.bellman_target(REWARD, DISCOUNT, output)[..., 0].sum())
    np.testing.assert_array_equal(slope(next_output).logits, 0)


def test_c51_keeps_the_mean_of_the_target_inside_the_support():
    head = heads.C51QNetwork(ACTIONS, num_atoms=11)
    reward, discount = jnp.clip(REWARD, -1, 1), jnp.minimum(DISCOUNT, 0.9)
    next_output = distribution(4, BATCH, TIME)
    target = jax.jit(head.bellman_target)(reward, discount, next_output)
    np.testing.assert_allclose(
        target @ next_output.atoms, reward + discount * next_output.mean, rtol=1e-4, atol=1e-5
    )


def test_c51_loses_what_rlax_loses():
    head = heads.C51QNetwork(ACTIONS, num_atoms=11)
    output = distribution(5, BATCH, TIME, ACTIONS)
    next_output = distribution(6, BATCH, TIME, ACTIONS)

    @jax.jit
    def learn(output, next_output):
        best = next_output.mean.argmax(-1)
        chosen = heads.select_action(next_output, best)
        target = head.bellman_target(REWARD, DISCOUNT, chosen)

        def loss(output):
            loss = head.loss(heads.select_action(output, ACTION), target)
            return loss.sum(), loss

        slope, loss = jax.grad(loss, has_aux=True)(output)
        return loss, slope.logits, target

    @jax.jit
    def oracle(output, next_output):
        learning = jax.vmap(rlax.categorical_q_learning, (None, 0, 0, 0, 0, None, 0))
        return jax.vmap(learning, (None, 0, 0, 0, 0, None, 0))(
            output.atoms, output.logits, ACTION, REWARD, DISCOUNT, output.atoms, next_output.logits
        )

    loss, slope, target = learn(output, next_output)
    np.testing.assert_allclose(loss, oracle(output, next_output), rtol=1e-5)
    expected = np.zeros((BATCH, TIME, ACTIONS, 11))
    probs = np.asarray(output.probs)
    for row, time in np.ndindex(BATCH, TIME):
        action = int(ACTION[row, time])
        expected[row, time, action] = probs[row, time, action] - target[row, time]
    np.testing.assert_allclose(slope, expected, rtol=1e-4, atol=1e-6)


def test_c51_on_another_scale_moves_the_transformed_returns():
    head = heads.C51QNetwork(ACTIONS, num_atoms=11)
    sharp = jnp.full((1, 1, 11), -50.0).at[..., 6].set(50.0)
    next_output = heads.ValueDistribution(sharp, -10.0, 10.0)
    scale = heads.ValueScale(jnp.log1p, jnp.expm1)
    reward, discount = jnp.asarray([[1.5]]), jnp.asarray([[0.9]])
    target = jax.jit(lambda: head.bellman_target(reward, discount, next_output, scale))()
    expected = np.log1p(1.5 + 0.9 * np.expm1(2.0))
    np.testing.assert_allclose(target @ next_output.atoms, [[expected]], rtol=1e-4)


def test_a_continuous_action_is_valued_with_the_features():
    head = heads.ContinuousQNetwork(hidden_dims=(7, 5))
    variables = head_params(head)
    names = ["value_hidden_0", "value_hidden_1", "value"]
    joined = np.concatenate([INPUTS, CANDIDATE], axis=-1)
    output = jax.jit(head.apply)(variables, INPUTS, CANDIDATE)
    assert output.shape == (BATCH, TIME)
    expected = layers(variables["params"], names, joined)[..., 0]
    np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-5)
    # Which action is better depends on the state, as no linear map could have it.
    slope = jax.jit(jax.grad(lambda action: head.apply(variables, INPUTS, action).sum()))(CANDIDATE)
    assert np.std(slope, axis=(0, 1)).min() > 0.01


def head_params(head):
    return draw(jax.eval_shape(head.init, jax.random.key(0), INPUTS, CANDIDATE))


@pytest.mark.parametrize("num_critics", [1, 2, 5])
def test_critics_are_independent_and_learn_from_the_same_target(num_critics):
    head = heads.TwinContinuousQNetwork(num_critics=num_critics, hidden_dims=(7,))
    variables = head_params(head)
    output = jax.jit(head.apply)(variables, INPUTS, CANDIDATE)
    assert output.shape == (BATCH, TIME, num_critics)
    alone = heads.ContinuousQNetwork(hidden_dims=(7,))
    for index in range(num_critics):
        params = {"params": variables["params"][f"critic_{index}"]}
        np.testing.assert_allclose(
            output[..., index],
            jax.jit(alone.apply)(params, INPUTS, CANDIDATE),
            rtol=1e-5,
            atol=1e-6,
        )
    assert num_critics == 1 or np.std(output, axis=-1).min() > 1e-3
    loss = head.loss(output, REWARD)
    expected = sum(0.5 * (output[..., index] - REWARD) ** 2 for index in range(num_critics))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_the_guides_twin_has_two_critics_of_two_layers():
    head = heads.TwinContinuousQNetwork()
    output, variables = jax.eval_shape(head.init_with_output, jax.random.key(0), INPUTS, CANDIDATE)
    assert output.shape == (BATCH, TIME, 2)
    for critic in ("critic_0", "critic_1"):
        kernel = variables["params"][critic]["value_hidden_1"]["kernel"]
        assert kernel.shape == (256, 256)


def test_critics_start_differently():
    head = heads.TwinContinuousQNetwork(hidden_dims=(7,))
    output, _ = head.init_with_output(jax.random.key(0), INPUTS, CANDIDATE)
    assert np.abs(output[..., 0] - output[..., 1]).max() > 1e-2


@pytest.mark.parametrize(
    "head",
    [heads.DiscreteQNetwork(ACTIONS), heads.ContinuousQNetwork()],
    ids=["discrete", "continuous"],
)
def test_the_loss_of_a_value_is_half_its_squared_error(head):
    output = jax.random.normal(jax.random.key(7), (BATCH, TIME))
    np.testing.assert_allclose(head.loss(output, REWARD), 0.5 * (output - REWARD) ** 2, rtol=1e-5)


@pytest.mark.parametrize(
    "head",
    [heads.ContinuousQNetwork(hidden_dims=(4,)), heads.TwinContinuousQNetwork(hidden_dims=(4,))],
)
@pytest.mark.parametrize(
    ("candidate", "words"),
    [
        (None, "evaluates actions: pass candidate_action=, or action="),
        (ACTION, r"candidate_action must have shape .*\(2, 4\), got \(2, 4\)"),
        (CANDIDATE[:, :1], r"candidate_action must have shape .*\(2, 4\), got \(2, 1, 2\)"),
        (ACTION[..., None], "candidate_action must be floating-point, got int32"),
    ],
    ids=["none", "no_axis", "time", "integers"],
)
def test_an_action_that_cannot_be_valued_is_refused(head, candidate, words, as_a_user):
    with pytest.raises(ValueError, match=words):
        jax.eval_shape(head.init, jax.random.key(0), INPUTS, candidate)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: heads.DiscreteQNetwork(0), "DiscreteQNetwork.action_dim must be an integer"),
        (lambda: heads.C51QNetwork(-1), "C51QNetwork.action_dim must be an integer"),
        (lambda: heads.C51QNetwork(2, num_atoms=1), "num_atoms must be .* at least 2, got 1"),
        (lambda: heads.C51QNetwork(2, v_min=10), "C51QNetwork.v_min must be less than v_max"),
        (lambda: heads.C51QNetwork(2, hidden_dims=(4, 0)), r"C51QNetwork.hidden_dims\[1\] must be"),
        (
            lambda: heads.DiscreteQNetwork(2, hidden_dims=64),
            "hidden_dims must be a tuple .* got 64",
        ),
        (lambda: heads.ContinuousQNetwork([8]), r"hidden_dims must be a tuple .* got \[8\]"),
        (lambda: heads.TwinContinuousQNetwork(0), "TwinContinuousQNetwork.num_critics must be"),
        (
            lambda: heads.TwinContinuousQNetwork(hidden_dims=(-8,)),
            r"TwinContinuousQNetwork.hidden_dims\[0\] must be an integer of at least 1, got -8",
        ),
    ],
)
def test_sizes_that_are_none_are_refused(make, words, as_a_user):
    with pytest.raises(ValueError, match=words):
        make()
