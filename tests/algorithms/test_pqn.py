import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from memorax import environments
from memorax.algorithms import PQN, PQNConfig
from memorax.algorithms.acting import apply_sequence, apply_step
from memorax.networks import heads
from tests.algorithms.agents import gru_torso, make_pqn, mlp_torso, perturbed, small_network
from tests.algorithms.tasks import Counting

GAMMA, LAMBDA = 0.9, 0.7

drawn_parameters = pytest.mark.usefixtures("drawn_parameters")


def rollout_of(agent):
    """Return states before and after a rollout, and what the loss reads of it."""

    @jax.jit
    def run(key):
        init_key, rollout_key = jax.random.split(key)
        state = agent.init(init_key)
        after, rollout = agent._rollout(state, rollout_key)
        return state, after, agent._sequences(state, after, rollout)

    return run(jax.random.key(0))


@drawn_parameters
def test_targets_are_q_lambda_and_bootstrap_at_time_limits_alone():
    agent = make_pqn(gamma=GAMMA, q_lambda=LAMBDA, num_steps=16, epsilon_start=0.5)
    state, after, sequences = rollout_of(agent)
    transitions, targets = sequences.transitions, sequences.targets

    @jax.jit
    def greatest_values():
        _, values = apply_sequence(
            agent.network, state.params, transitions.timestep, sequences.carry
        )
        _, last = apply_step(agent.network, state.params, after.timestep, after.carry)
        return jnp.concatenate([values, last], axis=1).max(-1)

    values = np.asarray(greatest_values(), np.float64)
    count, limited = np.moveaxis(np.asarray(transitions.timestep.observation), -1, 0)
    truncated = np.isclose(count, 1.0)
    terminated = np.isclose(count, 0.8) & (limited == 0)
    assert truncated.any()
    assert terminated.any()
    for row in range(4):
        following = values[row, 16]
        for step in reversed(range(16)):
            if truncated[row, step]:
                # The value of what the time limit cut off; nothing was done there.
                following = values[row, step]
                continue
            worth = (1 - LAMBDA) * values[row, step + 1] + LAMBDA * following
            following = 1.0 + (0.0 if terminated[row, step] else GAMMA * worth)
            np.testing.assert_allclose(targets[row, step], following, rtol=1e-5)


@drawn_parameters
@pytest.mark.parametrize("burn_in_length", [0, 5])
def test_the_loss_is_half_the_squared_error_of_what_was_learned_from(burn_in_length):
    agent = make_pqn(burn_in_length=burn_in_length, epsilon_start=0.5)
    state, _, sequences = rollout_of(agent)
    transitions = sequences.transitions
    params = perturbed(state.params, 2)

    @jax.jit
    def learn(params):
        _, values = apply_sequence(agent.network, params, transitions.timestep, sequences.carry)
        return agent._loss(params, sequences)[0], values

    loss, values = map(np.asarray, learn(params))
    action, targets = np.asarray(transitions.action), np.asarray(sequences.targets)
    losses = [
        0.5 * (float(values[row, step, action[row, step]]) - targets[row, step]) ** 2
        for row in range(4)
        for step in range(burn_in_length, 12)
        if not transitions.truncated[row, step]
    ]
    assert len(losses) < 4 * (12 - burn_in_length)
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-4)


@drawn_parameters
def test_sequences_are_never_cut_unless_the_network_holds_no_carry():
    def shape(torso):
        _, _, sequences = jax.eval_shape(lambda: rollout_of(make_pqn(torso)))
        return sequences.targets.shape

    assert shape(gru_torso()) == (4, 12)
    assert shape(mlp_torso()) == (48, 1)


@pytest.mark.exhaustive
def test_memory_solves_what_no_memoryless_agent_can():
    env, env_params = environments.make("gymnax::MemoryChain-bsuite", memory_length=4)
    config = PQNConfig(num_steps=16, epsilon_decay_steps=10_000)

    def mean_return(torso):
        network = small_network(torso, heads.DiscreteQNetwork(2))
        agent = PQN(config, env, env_params, network, optax.adam(5e-3))
        state = agent.init(jax.random.key(0))
        state, _ = agent.train(jax.random.key(1), state, 30_000)
        return agent.evaluate(jax.random.key(2), state, 200).episode_returns.mean()

    assert mean_return(gru_torso()) > 0.95
    assert abs(mean_return(mlp_torso())) < 0.3


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"q_lambda": 1.5}, "q_lambda must be a number from 0 to 1, got 1.5"),
        ({"num_envs": 3, "num_steps": 5}, "must be divisible by num_minibatches, got num_envs=3"),
        ({"burn_in_length": 64}, "burn_in_length must be an integer from 0 to 63, got 64"),
        ({"epsilon_decay_steps": 0}, "epsilon_decay_steps must be an integer of at least 1"),
    ],
)
def test_a_configuration_out_of_range_is_refused(fields, words, as_a_user):
    with pytest.raises(ValueError, match=f"PQNConfig.*{words}"):
        PQNConfig(**fields)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (heads.C51QNetwork(2), r"PQN.network.head must be DiscreteQNetwork.*C51QNetwork: use DQN"),
        (heads.DiscreteQNetwork(3), r"PQN.network.head must return action values of shape"),
        (heads.VNetwork(), r"PQN.network.head must have a bellman_target.*got VNetwork"),
    ],
)
def test_heads_that_do_not_value_the_actions_are_refused(head, words, as_a_user):
    network = small_network(gru_torso(8), head)
    with pytest.raises(ValueError, match=words):
        PQN(PQNConfig(), Counting(), None, network, optax.adam(1e-3))
