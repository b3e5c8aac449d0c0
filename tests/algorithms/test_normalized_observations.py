"""Statistics of observations that all copies share, and replays that keep observations raw."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from memorax.algorithms import DQN, DQNConfig
from memorax.environments import (
    Box,
    ClipReward,
    Discrete,
    FlattenObservation,
    NormalizeObservation,
    NormalizeReward,
    StackObservations,
    Vectorize,
)
from memorax.environments.memory.task import Task
from memorax.environments.wrappers.running_statistics import RunningStatistics, of_all_copies
from memorax.networks import FeatureExtractor, Network, heads
from tests.algorithms.agents import make_agent, make_dqn, make_pqn, make_sac, mlp_torso


@dataclass(frozen=True)
class Cue(Task):
    """Shows 5, or by chance 105, all the time; naming it is worth 1; time is up after 3 steps."""

    continuous: bool = False

    def begin(self, key, params):
        sign = jax.random.bernoulli(key).astype(jnp.int32)
        return 5.0 + 100.0 * sign[None], (sign, jnp.int32(0))

    def advance(self, key, state, action, params):
        sign, time = state
        named = (jnp.reshape(action, ()) > 0) == (sign == 1)
        state = sign, time + 1
        shown = 5.0 + 100.0 * sign[None]
        return shown, state, named.astype(jnp.float32), jnp.bool_(False), time == 2

    def observation_space(self, params):
        return Box(0.0, 200.0, (1,))

    def action_space(self, params):
        return Box(-1.0, 2.0, (1,)) if self.continuous else Discrete(2)


MAKERS = {
    "ppo": lambda env: make_agent(mlp_torso(8), env, num_envs=8),
    "pqn": lambda env: make_pqn(mlp_torso(8), env=env, num_envs=8),
    "dqn": lambda env: make_dqn(mlp_torso(8), env=env, num_envs=8),
    "sac": lambda env: make_sac(mlp_torso(8), env=env, num_envs=8),
}


def statistics_in(state):
    """Return the statistics of observations of every copy."""
    nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, RunningStatistics))
    nodes = [node for node in nodes if isinstance(node, RunningStatistics)]
    return next(node for node in nodes if node.mean.ndim == 2)


@pytest.mark.usefixtures("drawn_parameters")
@pytest.mark.parametrize("name", MAKERS)
def test_a_cue_that_is_constant_over_an_episode_differs_between_copies(name):
    agent = MAKERS[name](NormalizeObservation(Cue(name == "sac")))
    state, _ = agent.train(jax.random.key(1), agent.init(jax.random.key(0)), 400)
    of_copies = statistics_in(state.env_state)
    for leaf in jax.tree.leaves(of_copies):
        np.testing.assert_array_equal(leaf, np.broadcast_to(leaf[0], leaf.shape))
    statistics = of_all_copies(of_copies)
    # Every observation shown counted once: in each of the 8 copies one at the beginning, one after
    # each step of the task, and one more where an episode began.
    steps = int(state.num_updates) * agent.config.num_steps
    # The last observation before a time limit is a step of its own.
    assert statistics.count == 8 * (1 + steps + (steps % 4 == 3))
    np.testing.assert_allclose(statistics.mean, 55, atol=15)
    np.testing.assert_allclose(statistics.deviation, 50, atol=5)
    # An evaluation shows what training does.
    evaluated = agent._env_for_evaluation(state.env_state)
    shown = np.unique(np.ravel(Vectorize(evaluated, 16).reset(jax.random.key(0), None)[0].round(4)))
    expected = (np.array([5.0, 105.0]) - statistics.mean) / statistics.deviation
    np.testing.assert_allclose(shown, expected, atol=1e-3)


@pytest.mark.usefixtures("drawn_parameters")
@pytest.mark.parametrize("name", ["dqn", "sac"])
def test_a_replay_keeps_observations_as_they_are_and_normalises_what_it_reads(name, monkeypatch):
    agent = MAKERS[name](
        NormalizeReward(ClipReward(NormalizeObservation(Cue(name == "sac")), -1.0, 1.0))
    )
    state, _ = agent.train(jax.random.key(1), agent.init(jax.random.key(0)), 400)
    kept = np.unique(state.replay.sequences.timestep.observation[:, : state.replay.num_rows])
    assert set(kept) <= {0.0, 5.0, 105.0}
    original = agent._learn

    def learn(learner, sample, key):
        learner, priorities, metrics = original(learner, sample, key)
        return learner, priorities, metrics | {"read": sample.sequences.timestep.observation}

    monkeypatch.setattr(agent, "_learn", learn)
    _, metrics = jax.jit(agent._gradient_step)(state, jax.random.key(0))
    statistics = of_all_copies(statistics_in(state.env_state))
    expected = (np.array([0.0, 5.0, 105.0]) - statistics.mean) / statistics.deviation
    seen = np.unique(np.asarray(metrics["read"]).round(4))
    assert len(seen) >= 2
    assert all(np.isclose(value, expected, atol=1e-3).any() for value in seen)


def test_a_replay_takes_what_stacks_normalised_observations():
    network = Network(
        FeatureExtractor(observation_extractor=lambda stacked: stacked[..., 0]),
        mlp_torso(8),
        heads.DiscreteQNetwork(2),
    )
    env = StackObservations(NormalizeObservation(Cue()), 2)
    agent = DQN(DQNConfig(num_envs=8), env, None, network, optax.adam(1e-3))
    state = agent.init(jax.random.key(0))
    assert state.timestep.observation.shape == (8, 2, 1)
    assert set(np.unique(state.timestep.observation)) <= {5.0, 105.0}
    shown = agent._shown(state.timestep, state.env_state).observation
    first, _ = agent._envs.reset(jax.random.split(jax.random.key(0))[0], None)
    np.testing.assert_allclose(shown, first, rtol=1e-6)


def test_a_replay_refuses_observations_that_are_changed_after_they_were_normalised():
    with pytest.raises(ValueError, match="NormalizeObservation must wrap FlattenObservation"):
        MAKERS["dqn"](FlattenObservation(NormalizeObservation(Cue())))
