"""Counts of steps and updates, up to the longest run that the command line allows."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from memorax.algorithms import DQNConfig, PQNConfig, R2D2Config, SACConfig
from memorax.algorithms.exploration import linear_epsilon
from memorax.catalog.algorithms import ALGORITHMS
from tests.algorithms.agents import make_dqn, make_pqn, make_sac, mlp_torso
from tests.algorithms.test_every_algorithm import MAKERS

MOST_STEPS = 2**32 - 1
drawn_parameters = pytest.mark.usefixtures("drawn_parameters")


def schedule_count(optimizer_state):
    """Return how many steps the schedule of an optimizer has counted."""

    def is_schedule(node):
        return isinstance(node, optax.ScaleByScheduleState)

    leaves = jax.tree.leaves(optimizer_state, is_leaf=is_schedule)
    (schedule,) = filter(is_schedule, leaves)
    return int(schedule.count)


@pytest.mark.parametrize("steps_per_update", [1, 48, 1024, 2**30])
@pytest.mark.parametrize("decay_steps", [1, 50_000, 2**31 - 1])
def test_exploration_falls_as_steps_grow_to_the_most(steps_per_update, decay_steps):
    config = DQNConfig(epsilon_decay_steps=decay_steps, epsilon_end=0.1)
    most_updates = min(MOST_STEPS // steps_per_update, 2**31 - 1)
    for num_updates in {0, 1, most_updates // 2, most_updates - 1, most_updates}:
        share = min(1.0, num_updates * steps_per_update / decay_steps)
        epsilon = linear_epsilon(config, jnp.int32(num_updates), steps_per_update)
        np.testing.assert_allclose(epsilon, 1.0 - 0.9 * share, rtol=1e-5)


@drawn_parameters
@pytest.mark.parametrize("make", [make_dqn, make_pqn, make_sac])
def test_a_run_goes_on_learning_when_its_steps_leave_32_bits(make):
    agent = make(mlp_torso(), **({"learning_starts": 64} if make is not make_pqn else {}))
    state = agent.init(jax.random.key(0))
    for steps in (2**31 - 16, 2**32 - 16):
        late = replace(state, num_updates=jnp.int32(steps // agent.steps_per_update))
        _, metrics = agent.train(jax.random.key(1), late, 2 * agent.steps_per_update)
        for name, values in metrics.items():
            assert name.startswith("episode") or np.isfinite(values).all(), name
        if make is not make_sac:
            np.testing.assert_allclose(metrics["epsilon"], agent.config.epsilon_end, rtol=1e-6)
    # More updates than 32 bits count are counted as the most of them.
    latest = replace(state, num_updates=jnp.int32(2**31 - 1))
    assert agent.train(jax.random.key(1), latest, 2 * agent.steps_per_update)[0].num_updates > 0


@pytest.mark.parametrize("kind", [DQNConfig, R2D2Config, SACConfig])
@pytest.mark.parametrize("learning_starts", [1, 511, 512, 513, 5_000])
def test_learning_starts_with_the_first_update_that_has_all_steps(kind, learning_starts):
    config = kind(learning_starts=learning_starts, num_steps=40, sequence_length=80)
    for num_updates in range(20):
        learning = [update * 640 >= learning_starts for update in range(1, num_updates + 1)]
        assert config.optimizer_steps(num_updates) == sum(learning) * config.gradient_steps
    assert PQNConfig().optimizer_steps(7) == 7 * PQNConfig().update_epochs * 4


@drawn_parameters
@pytest.mark.parametrize("name", [name for name in MAKERS if ALGORITHMS[name].has_optimizer])
def test_a_learning_rate_over_the_run_is_zero_at_its_end(name):
    num_updates = 6
    fields = {
        # Each update stops early, whatever it learns.
        "ppo": {"target_kl": 0.0, "update_epochs": 3},
        "pqn": {},
        # Half of the run only fills the replay.
        "dqn": {"learning_starts": 64},
        "sac": {"learning_starts": 64},
        # The actor learns at every third step of the critic.
        "td3": {"learning_starts": 64, "policy_delay": 3},
    }[name]
    config = MAKERS[name](mlp_torso(), **fields).config
    schedule = optax.linear_schedule(1e-3, 0.0, config.optimizer_steps(num_updates))
    agent = MAKERS[name](mlp_torso(), optimizer=optax.adam(schedule), **fields)
    state = agent.init(jax.random.key(0))
    state, _ = agent.train(jax.random.key(1), state, num_updates * agent.steps_per_update)
    replays = name in ("dqn", "sac", "td3")
    optimizer_state = state.learner.optimizer_state if replays else state.optimizer_state
    if name == "td3":
        optimizer_state = optimizer_state["actor"]
    assert schedule_count(optimizer_state) == config.optimizer_steps(num_updates)
    assert schedule(schedule_count(optimizer_state)) == 0
    if name == "ppo":
        made = int(optimizer_state[0].count)
        assert 0 < made < config.optimizer_steps(num_updates), "what is skipped is in no average"
