"""Dtypes that neither settings nor tasks change, so that programs are compiled once."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import pytest

from memorax import environments
from memorax.environments import Box, Discrete, RecordEpisodeStatistics, Vectorize
from memorax.environments.memory.task import Task
from tests.algorithms.agents import make_agent, make_dqn, make_pqn, make_sac, mlp_torso
from tests.algorithms.tasks import Counting

drawn_parameters = pytest.mark.usefixtures("drawn_parameters")


@dataclass(frozen=True)
class Weak(Task):
    """A user's task, of numbers as they come: Python's, and whatever JAX makes of them."""

    actions: Discrete | Box

    def begin(self, key, params):
        sign = jnp.where(jax.random.bernoulli(key), 1, -1)
        return jnp.full((1,), sign * 1.0), {"sign": sign, "time": jnp.asarray(0), "scale": 0.5}

    def advance(self, key, state, action, params):
        state = {
            "sign": jnp.where(state["time"] > 1, 1, -1),
            "time": state["time"] + 1,
            "scale": jnp.asarray(2.0) * state["scale"],
        }
        shown = jnp.linspace(0, 1, 1) + jax.random.uniform(key)
        return shown, state, state["sign"] * 1, state["time"] == 3, jnp.bool_(False)

    def observation_space(self, params):
        return Box(-3.0, 3.0, (1,))

    def action_space(self, params):
        return self.actions


MAKERS = {
    "ppo": lambda env: make_agent(mlp_torso(8), env),
    "dqn": lambda env: make_dqn(mlp_torso(8), env=env, learning_starts=16),
    "pqn": lambda env: make_pqn(mlp_torso(8), env=env),
    "sac": lambda env: make_sac(mlp_torso(8), env=env, learning_starts=16),
}


def task_of(name, kind):
    actions = Box(-1.0, 2.0, (1,)) if name == "sac" else Discrete(2)
    return kind(actions=actions)


def types(tree):
    """Return the dtype of every array by its path, and whether it is only weakly so."""
    return {
        jax.tree_util.keystr(path): (str(leaf.dtype), leaf.weak_type)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


@drawn_parameters
@pytest.mark.parametrize("name", MAKERS)
def test_training_in_a_program_of_64_bits_keeps_the_dtypes_of_32(name):
    agent = MAKERS[name](task_of(name, Weak))
    expected = types(jax.eval_shape(agent.init, jax.random.key(0)))
    with jax.enable_x64(True):
        agent = MAKERS[name](task_of(name, Weak))
        state = agent.init(jax.random.key(0))
        state, _ = agent.train(jax.random.key(1), state, 2 * agent.steps_per_update)
        report = agent.evaluate(jax.random.key(2), state, 2)
    for path, found in types(state).items():
        # The task's state is its own, and how the replay counts.
        if not path.startswith((".env_state", ".replay")):
            assert found == expected[path], path
    assert state.timestep.reward.dtype == jnp.float32
    assert state.timestep.action.dtype == (jnp.float32 if name == "sac" else jnp.int32)
    assert jnp.isfinite(state.timestep.observation).all()
    assert report.episode_lengths.tolist() == [3, 3]


@drawn_parameters
@pytest.mark.parametrize("kind", [Weak, Counting])
@pytest.mark.parametrize("name", MAKERS)
def test_training_again_is_compiled_once(name, kind):
    agent = MAKERS[name](task_of(name, kind))
    traced = []
    update = agent._update

    def traced_update(state, key):
        traced.append(1)
        return update(state, key)

    agent._update = traced_update
    state = agent.init(jax.random.key(0))
    state, _ = agent.train(jax.random.key(1), state, agent.steps_per_update)
    after_the_first = len(traced)
    for seed in (2, 3):
        state, _ = agent.train(jax.random.key(seed), state, agent.steps_per_update)
    assert len(traced) == after_the_first
    assert not any(weak for _, weak in types(state).values())


@pytest.mark.parametrize("task", environments.names("memory"))
def test_every_task_keeps_its_dtypes_and_has_its_own(task):
    env, params = environments.make(f"memory::{task}")
    envs = Vectorize(RecordEpisodeStatistics(env), 2)
    space = env.action_space(params)
    action = jnp.zeros((2, *getattr(space, "shape", ())), getattr(space, "dtype", jnp.int32))

    def begin(key):
        return envs.reset(key, params)

    def step(key, state):
        observation, state, reward, _, _, info = envs.step(key, state, action, params)
        return (observation, state), (info["final_observation"], reward)

    key = jax.random.key(0)
    begun = jax.eval_shape(begin, key)
    stepped, (final_observation, reward) = jax.eval_shape(step, key, begun[1])
    assert types(stepped) == types(begun)
    assert types(final_observation) == types(begun[0])
    assert (reward.dtype, reward.weak_type) == (jnp.float32, False)
    assert not any(weak for _, weak in types(stepped).values())
