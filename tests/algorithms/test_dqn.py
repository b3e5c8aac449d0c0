from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import rlax

from memorax import environments
from memorax.algorithms import DQN, DQNConfig, R2D2Config
from memorax.algorithms.acting import apply_sequence, apply_step, read_sequences
from memorax.algorithms.transitions import window_to_sequences
from memorax.environments import Box
from memorax.networks import heads
from tests.algorithms.agents import (
    CONTINUOUS,
    gru_torso,
    make_dqn,
    mlp_torso,
    perturbed,
    random_sample,
    random_sequences,
    small_network,
)
from tests.algorithms.tasks import Counting, Tossing

GAMMA = 0.9
project = jax.jit(rlax.categorical_l2_project)

drawn_parameters = pytest.mark.usefixtures("drawn_parameters")


def rescale(value):
    return np.sign(value) * (np.sqrt(abs(value) + 1) - 1) + 1e-3 * value


def unscale(value):
    root = np.sqrt(1 + 4 * 1e-3 * (abs(value) + 1 + 1e-3))
    return np.sign(value) * (((root - 1) / (2 * 1e-3)) ** 2 - 1)


def follow(sequences, row, step, n_step):
    """Return the n-step return from a step on, and the discount and time of the bootstrap."""
    total, discount = 0.0, 1.0
    for _ in range(n_step):
        if step == sequences.reward.shape[1] or sequences.truncated[row, step]:
            break
        total += discount * float(sequences.reward[row, step])
        if sequences.terminated[row, step]:
            return total, 0.0, step
        discount *= GAMMA
        step += 1
    return total, discount, step


def errors_of_values(values, target_values, sequences, row, step, config):
    """Return the loss of one step's value, and how far it is from its target."""
    total, discount, then = follow(sequences, row, step, config.n_step)
    chooser = values if config.double_q else target_values
    following = target_values[row, then, np.argmax(chooser[row, then])]
    if config.value_rescaling:
        target = rescale(total + discount * unscale(following))
    else:
        target = total + discount * following
    error = values[row, step, sequences.action[row, step]] - target
    return 0.5 * error**2, abs(error)


def errors_of_distributions(logits, target_logits, sequences, row, step, config):
    """Return the loss of one step's distribution twice: it says how far from the target it is."""
    atoms = np.linspace(-2, 2, logits.shape[-1])
    probs, target_probs = (
        np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in (logits, target_logits)
    )
    total, discount, then = follow(sequences, row, step, config.n_step)
    chooser = probs if config.double_q else target_probs
    following = target_probs[row, then, np.argmax(chooser[row, then] @ atoms)]
    target = np.asarray(project(total + discount * atoms, following, atoms))
    loss = -(target * np.log(probs[row, step, sequences.action[row, step]])).sum()
    return loss, loss


@drawn_parameters
@pytest.mark.parametrize(
    ("head", "fields"),
    [
        (heads.DiscreteQNetwork(2), {}),
        (heads.DiscreteQNetwork(2, dueling=True), {"double_q": False, "n_step": 3}),
        (
            heads.DiscreteQNetwork(2),
            {"value_rescaling": True, "n_step": 4, "burn_in_length": 5},
        ),
        (heads.C51QNetwork(2, num_atoms=7, v_min=-2.0, v_max=2.0), {"n_step": 2}),
        (
            heads.C51QNetwork(2, num_atoms=7, v_min=-2.0, v_max=2.0),
            {"double_q": False, "burn_in_length": 5},
        ),
    ],
    ids=["double_q", "dueling", "r2d2", "c51", "c51_burn_in"],
)
def test_the_loss_and_the_priorities_are_the_published_ones(head, fields):
    agent = make_dqn(head=head, gamma=GAMMA, max_priority_weight=0.7, **fields)
    config, burn_in = agent.config, agent.config.burn_in_length
    sequences = random_sequences(agent)
    initial = agent.init(jax.random.key(0)).params
    params, target_params = perturbed(initial, 1), perturbed(initial, 2)
    weights = jnp.linspace(0.1, 1.0, config.batch_size)
    loss, (priorities, _) = jax.jit(agent._loss)(params, target_params, sequences, weights)

    read = jax.jit(partial(apply_sequence, agent.network))
    outputs = []
    for variables in (params, target_params):
        _, output = read(variables, sequences.timestep, sequences.carry)
        outputs.append(np.asarray(jax.tree.leaves(output)[0], np.float64))
    sequences = jax.tree.map(np.asarray, sequences)
    distributional = isinstance(head, heads.C51QNetwork)
    errors_of = errors_of_distributions if distributional else errors_of_values
    expected_loss, expected_priorities = 0.0, []
    for row in range(config.batch_size):
        losses, errors = [], []
        for step in range(burn_in, config.sequence_length):
            if not sequences.truncated[row, step]:
                step_loss, error = errors_of(*outputs, sequences, row, step, config)
                losses.append(step_loss)
                errors.append(error)
        expected_loss += float(weights[row]) * np.mean(losses) / config.batch_size
        expected_priorities.append(0.7 * max(errors) + 0.3 * np.mean(errors))
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-4)
    np.testing.assert_allclose(priorities, expected_priorities, rtol=1e-4, atol=2e-6)


@drawn_parameters
def test_learning_sees_the_action_values_that_acting_saw():
    agent = make_dqn(learning_starts=10**6, epsilon_end=0.5)

    @jax.jit
    def run(key):
        def update(state, key):
            def seen(state, key):
                _, output = apply_step(agent.network, state.params, state.timestep, state.carry)
                return agent._act(state, key)[0], output[:, 0]

            act_keys = jax.random.split(jax.random.split(key)[0], agent.config.num_steps)
            _, values = jax.lax.scan(seen, state, act_keys)
            return agent._update(state, key)[0], values

        state = agent.init(key)
        state = replace(state, learner=replace(state.learner, params=perturbed(state.params)))
        return jax.lax.scan(update, state, jax.random.split(key, 5))

    state, acted = run(jax.random.key(0))

    @jax.jit
    def learn(state):
        sequences = window_to_sequences(state.window, state.timestep)
        values, _ = read_sequences(
            agent.network, state.params, sequences.timestep, sequences.carry, burn_in_length=0
        )
        return sequences.timestep.done, values

    done, values = map(np.asarray, learn(state))
    assert done[:, 1:-1].any(axis=1).all(), "episodes must end in the middle"
    # Three updates of four steps fill the window; the last two of five have moved it on.
    acted = np.concatenate(acted[-3:], axis=0).swapaxes(0, 1)
    np.testing.assert_allclose(values[:, :-1], acted, rtol=1e-5, atol=1e-6)


def test_values_bootstrap_at_time_limits_and_not_at_terminations():
    """With gamma 1/2 an endless episode is worth 2; one of n more steps 2 - 2^(1-n)."""
    agent = make_dqn(
        mlp_torso(32),
        gamma=0.5,
        optimizer=optax.adam(3e-3),
        buffer_size=4_000,
        gradient_steps=4,
        target_update_rate=0.05,
    )
    state = agent.init(jax.random.key(0))
    state, _ = agent.train(jax.random.key(1), state, 8_000)
    sequences = window_to_sequences(state.window, state.timestep)
    _, values = apply_sequence(
        agent.network, state.params, sequences.timestep, agent.network.initialize_carry(4)
    )
    count, limited = np.moveaxis(np.asarray(sequences.timestep.observation), -1, 0)
    worth = np.where(limited == 1, 2.0, 2 - 2.0 ** (1 - (5 - 5 * count)))
    # What a time limit cut off is bootstrapped from, but not itself learned from.
    learned = count < 1
    assert (limited[~learned] == 1).all(), "a termination's last observation is never shown"
    assert set(np.unique(limited)) == {0.0, 1.0}
    np.testing.assert_allclose(values.mean(-1)[learned], worth[learned], atol=0.1)


@drawn_parameters
@pytest.mark.parametrize(("period", "rate"), [(3, 1.0), (1, 0.25), (2, 0.5)])
def test_the_target_network_follows_by_period_and_rate(period, rate):
    agent = make_dqn(target_update_period=period, target_update_rate=rate, gradient_steps=1)
    state = agent.init(jax.random.key(0))
    sample = random_sample(agent, state)
    learner, learn = state.learner, jax.jit(agent._learn)
    expected = jax.tree.map(np.asarray, learner.target_params)
    for step in range(1, 5):
        learner, _, _ = learn(learner, sample, jax.random.key(step))
        if step % period == 0:
            expected = jax.tree.map(
                lambda old, new: (1 - rate) * old + rate * np.asarray(new),
                expected,
                learner.params,
            )
        for got, leaf in zip(
            jax.tree.leaves(learner.target_params), jax.tree.leaves(expected), strict=True
        ):
            np.testing.assert_allclose(got, leaf, rtol=1e-5, atol=1e-7)
    assert learner.num_gradient_steps == 4


@drawn_parameters
def test_learning_starts_when_it_is_to_and_exploration_falls_linearly():
    agent = make_dqn(learning_starts=40, epsilon_start=1.0, epsilon_end=0.1, epsilon_decay_steps=64)
    state = agent.init(jax.random.key(0))
    after, metrics = agent.train(jax.random.key(1), state, 32)
    for old, new in zip(jax.tree.leaves(state.params), jax.tree.leaves(after.params), strict=True):
        np.testing.assert_array_equal(old, new)
    assert after.learner.num_gradient_steps == 0
    assert np.isnan(metrics["loss"]).all()
    np.testing.assert_allclose(metrics["epsilon"], [1.0, 0.775], rtol=1e-6)
    after, metrics = agent.train(jax.random.key(2), after, 64)
    assert after.learner.num_gradient_steps == 8
    assert np.isfinite(metrics["loss"]).all()
    np.testing.assert_allclose(metrics["epsilon"], [0.55, 0.325, 0.1, 0.1], rtol=1e-6)


@drawn_parameters
def test_priorities_reach_the_replay_and_importance_weights_make_up_for_them():
    agent = make_dqn(priority_exponent=0.5, importance_exponent=0.4, gradient_steps=1)
    state = agent.init(jax.random.key(0))
    state, _ = agent.train(jax.random.key(1), state, 63)
    key = jax.random.key(2)
    sample = jax.jit(agent._replay.sample)(state.replay, jax.random.split(key)[0])
    weights = np.asarray(sample.probabilities) ** -0.4
    loss, (priorities, _) = jax.jit(agent._loss)(
        state.params,
        state.learner.target_params,
        sample.sequences,
        jnp.asarray(weights / weights.max()),
    )
    after, metrics = jax.jit(agent._gradient_step)(state, key)
    # Of a sequence drawn twice, both have the same priority.
    kept = dict(zip(sample.indices.tolist(), np.asarray(priorities).tolist(), strict=True))
    many = jax.jit(jax.vmap(agent._replay.sample, in_axes=(None, 0)))(
        after.replay, jax.random.split(jax.random.key(3), 50)
    )
    indices, probabilities = (
        np.asarray(array).reshape(-1).tolist() for array in (many.indices, many.probabilities)
    )
    drawn = {i: p for i, p in zip(indices, probabilities, strict=True) if i in kept}
    assert len(drawn) > 1
    scale = [drawn[i] / kept[i] ** 0.5 for i in drawn]
    np.testing.assert_allclose(scale, scale[0], rtol=1e-3)
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)


class Pictures(Counting):
    """The same, shown in bytes."""

    def _observe(self, state):
        return jnp.full((3, 3, 1), 50 * state[0], jnp.uint8)

    def observation_space(self, params):
        return Box(0, 255, (3, 3, 1), jnp.uint8)


def pictures_dqn(**fields):
    network = small_network(gru_torso(8), heads.DiscreteQNetwork(2))
    extractor = replace(
        network.feature_extractor,
        observation_extractor=lambda observation: (
            observation.reshape(*observation.shape[:2], -1) / 255.0
        ),
    )
    config = {"num_envs": 2, "num_steps": 4, "sequence_length": 4, "batch_size": 4}
    return DQN(
        DQNConfig(**config | fields),
        Pictures(),
        None,
        replace(network, feature_extractor=extractor),
        optax.adam(1e-3),
    )


@drawn_parameters
def test_bytes_stay_bytes_in_the_replay_and_it_says_what_it_takes():
    agent = pictures_dqn(buffer_size=64)
    replay = agent.init(jax.random.key(0)).replay
    observation = replay.sequences.timestep.observation
    assert observation.dtype == jnp.uint8
    assert observation.shape == (2, 8, 5, 3, 3, 1)
    allocated = sum(leaf.nbytes for leaf in jax.tree.leaves(replay.sequences))
    assert agent.replay_bytes == allocated
    # Pictures, done, action, reward; action, reward, terminated, cut off; the carry.
    assert allocated == 16 * (5 * (9 + 1 + 4 + 4) + 4 * (4 + 4 + 1 + 1) + 8 * 4)


def test_a_replay_that_does_not_fit_is_refused_before_anything_is_allocated(as_a_user):
    with pytest.raises(ValueError, match=r"DQNConfig.buffer_size: the replay would take .* GiB"):
        pictures_dqn(buffer_size=2 * 10**9)
    agent = pictures_dqn(buffer_size=64)
    with pytest.raises(ValueError, match=r"DQNConfig.buffer_size: .* 1000000000 times"):
        agent.check_replay_fits(num_seeds=10**9)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"n_step": 33}, "n_step must be an integer from 1 to 32, got 33"),
        ({"sequence_length": 64, "burn_in_length": 33}, "burn_in_length .* 0 to 32, got 33"),
        ({"sequence_length": 64, "burn_in_length": 32, "n_step": 33}, "n_step .* 1 to 32, got 33"),
        ({"sequence_length": 40}, "sequence_length must be a multiple of num_steps"),
        ({"buffer_size": 500, "batch_size": 17}, r"must hold .* \(16 sequences\), batch_size=17"),
        ({"priority_exponent": 1.5}, "priority_exponent must be a number from 0 to 1, got 1.5"),
        ({"target_update_period": 0}, "target_update_period must be an integer of at least 1"),
        ({"epsilon_start": -0.1}, "epsilon_start must be a number from 0 to 1, got -0.1"),
        ({"gradient_steps": 0}, "gradient_steps must be an integer of at least 1, got 0"),
        ({"gamma": 1.01}, "gamma must be a number from 0 to 1, got 1.01"),
    ],
)
def test_a_configuration_out_of_range_is_refused(fields, words, as_a_user):
    with pytest.raises(ValueError, match=f"DQNConfig.*{words}"):
        DQNConfig(**fields)


def test_errors_name_the_configuration_that_was_meant(as_a_user):
    with pytest.raises(ValueError, match=r"R2D2Config.burn_in_length must be .* 0 to 40, got 41"):
        R2D2Config(burn_in_length=41)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (heads.DiscreteQNetwork(3), r"head must return action values of shape \(4, 1, 2\)"),
        (heads.Categorical(2), "head must have a bellman_target.*got Categorical"),
        (heads.VNetwork(), "head must have a bellman_target.*got VNetwork"),
        (heads.ContinuousQNetwork(), "head must have a bellman_target.*got ContinuousQNetwork"),
        (
            heads.Horde(
                heads.DiscreteQNetwork(2), {"reward": heads.GVF(heads.VNetwork(), len, 0.9)}
            ),
            "head must have a bellman_target.*got Horde",
        ),
    ],
)
def test_heads_that_do_not_value_the_actions_are_refused(head, words, as_a_user):
    with pytest.raises(ValueError, match=f"DQN.network.{words}"):
        make_dqn(head=head)


def test_continuous_actions_are_refused(as_a_user):
    with pytest.raises(ValueError, match=r"DQN.network values discrete actions, got .* \(1,\)"):
        make_dqn(env=Counting(CONTINUOUS))


@pytest.mark.exhaustive
def test_memory_solves_what_no_memoryless_agent_can():
    env, env_params = environments.make("gymnax::MemoryChain-bsuite", memory_length=4)
    config = DQNConfig(
        num_envs=8,
        num_steps=8,
        sequence_length=8,
        batch_size=32,
        gradient_steps=2,
        learning_starts=500,
        epsilon_decay_steps=5_000,
        target_update_rate=0.05,
    )

    def mean_return(torso):
        network = small_network(torso, heads.DiscreteQNetwork(2))
        agent = DQN(config, env, env_params, network, optax.adam(5e-3))
        state = agent.init(jax.random.key(0))
        state, _ = agent.train(jax.random.key(1), state, 20_000)
        return agent.evaluate(jax.random.key(2), state, 200).episode_returns.mean()

    assert mean_return(gru_torso()) > 0.95
    assert abs(mean_return(mlp_torso())) < 0.3


@pytest.mark.exhaustive
def test_c51_comes_to_know_the_distribution_of_returns_and_its_mean():
    head = heads.C51QNetwork(2, num_atoms=5, v_min=-2.0, v_max=2.0)
    agent = make_dqn(
        mlp_torso(),
        head,
        Tossing(),
        optimizer=optax.adam(2e-3),
        buffer_size=4_096,
        batch_size=64,
        epsilon_end=1.0,
    )
    state = agent.init(jax.random.key(0))
    state, _ = agent.train(jax.random.key(1), state, 12_000)
    timestep = jax.tree.map(lambda leaf: leaf[:1, None], state.timestep)
    _, output = apply_sequence(agent.network, state.params, timestep, ())
    for action in range(2):
        probs = jax.nn.softmax(output.logits[0, 0, action])
        np.testing.assert_allclose(probs, [0, 0.25, 0, 0.75, 0], atol=0.08)
        np.testing.assert_allclose(output.mean[0, 0, action], 0.5, atol=0.12)
