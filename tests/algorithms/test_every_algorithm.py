"""What holds for every algorithm, whatever it learns."""

from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax.networks import MoE, TopKRouter
from tests.algorithms.agents import (
    gru_torso,
    make_agent,
    make_dqn,
    make_pqn,
    make_sac,
    make_streaming_ac,
    make_td3,
    perturbed,
    random_sequences,
)
from tests.algorithms.tasks import Counting


def make_ppo(torso=None, **config):
    return make_agent(torso or gru_torso(8), Counting(), **config)


MAKERS = {
    "ppo": make_ppo,
    "dqn": make_dqn,
    "pqn": make_pqn,
    "sac": make_sac,
    "td3": make_td3,
    "streaming_ac": make_streaming_ac,
}


def rollout_of(agent, state):
    """Return what the loss of an algorithm without a replay reads beside parameters."""
    next_state, rollout = agent._rollout(state, jax.random.key(1))
    return (agent._sequences(state, next_state, rollout),)


def of_replay(name, agent, state, sequences):
    """Return what the loss of an algorithm with a replay reads beside parameters."""
    last = jnp.ones(agent.config.batch_size) if name == "dqn" else jax.random.key(1)
    return state.learner.target_params, sequences, last


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["ppo", "dqn", "pqn", "sac", "td3"])
def test_what_a_network_sows_enters_the_objective_by_its_coefficient(name):
    """With one expert heard at a time its gate is 1: a router learns from what it sows alone."""
    router = TopKRouter(num_experts=2, k=1, load_balancing_coefficient=1.0)
    torso = MoE((nn.Dense(8),) * 2, router)
    agents = {
        coefficient: MAKERS[name](torso, sown_loss_coefficient=coefficient)
        for coefficient in (0.0, 1.0, 3.0)
    }
    state = agents[0.0].init(jax.random.key(0))
    params = perturbed(state.params)
    if name in ("ppo", "pqn"):
        inputs = jax.jit(lambda state: rollout_of(agents[0.0], state))(state)
    else:
        inputs = of_replay(name, agents[0.0], state, random_sequences(agents[0.0]))

    # One program, of which the most is the same for each.
    @jax.jit
    def learn(params, inputs):
        return {
            coefficient: jax.value_and_grad(lambda *inputs, agent=agent: agent._loss(*inputs)[0])(
                params, *inputs
            )
            for coefficient, agent in agents.items()
        }

    learned = learn(params, inputs)
    losses = {coefficient: loss for coefficient, (loss, _) in learned.items()}
    gradients = {coefficient: gradient for coefficient, (_, gradient) in learned.items()}

    def of_routers(gradients):
        leaves = jax.tree_util.tree_leaves_with_path(gradients)
        return [leaf for path, leaf in leaves if "router" in jax.tree_util.keystr(path)]

    assert of_routers(gradients[0.0])
    assert not any(leaf.any() for leaf in of_routers(gradients[0.0]))
    kernels = [leaf for leaf in of_routers(gradients[1.0]) if leaf.ndim == 2]
    assert all(leaf.any() for leaf in kernels)
    # Balance is at least 1 for each network, and enters in proportion.
    sown = losses[1.0] - losses[0.0]
    assert sown > 1
    np.testing.assert_allclose(losses[3.0] - losses[0.0], 3 * sown, rtol=1e-4)


@pytest.mark.parametrize(
    "name",
    [
        "ppo",
        *(pytest.param(name, marks=pytest.mark.exhaustive) for name in MAKERS if name != "ppo"),
    ],
)
def test_seeds_side_by_side_train_as_alone_and_evaluation_only_reads(name):
    agent = MAKERS[name](learning_starts=16) if name in ("dqn", "sac", "td3") else MAKERS[name]()
    keys = jax.random.split(jax.random.key(3), 2)
    num_steps = 3 * agent.steps_per_update
    together, metrics = jax.vmap(agent.train, in_axes=(0, 0, None))(
        keys, jax.vmap(agent.init)(keys), num_steps
    )
    assert metrics["num_episodes"].shape == (2, 3)
    state = agent.init(keys[1])
    alone, _ = agent.train(keys[1], state, num_steps)
    moved = False
    for old, one, many in zip(
        *map(jax.tree.leaves, (state.params, alone.params, together.params)), strict=True
    ):
        np.testing.assert_allclose(one, many[1], rtol=1e-3, atol=1e-5)
        moved |= not np.array_equal(old, one)
    assert moved, "nothing was learned"

    before = jax.tree.map(np.array, alone, is_leaf=lambda leaf: hasattr(leaf, "shape"))
    report = agent.evaluate(jax.random.key(4), alone, 3)
    np.testing.assert_array_equal(report.episode_returns, 5.0)
    np.testing.assert_array_equal(report.episode_lengths, 5)
    for old, new in zip(*map(jax.tree.leaves, (before, alone)), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.usefixtures("drawn_parameters")
@pytest.mark.parametrize("name", ["dqn", "sac", "td3"])
def test_replay_never_mixes_episodes(name):
    agent = MAKERS[name](burn_in_length=4)
    first, sequences = 7, random_sequences(agent)
    done = sequences.timestep.done.at[:, first].set(True)
    # What came before is masked, so that the loss is that of the new episode alone.
    sequences = replace(
        sequences,
        timestep=replace(sequences.timestep, done=done),
        truncated=sequences.truncated.at[:, :first].set(True),
    )
    other = random_sequences(agent, seed=1)

    def spliced(new, old):
        return jnp.concatenate([10 * new[:, :first], old[:, first:]], axis=1)

    altered = replace(
        sequences,
        timestep=replace(
            sequences.timestep,
            observation=spliced(other.timestep.observation, sequences.timestep.observation),
            reward=spliced(other.timestep.reward, sequences.timestep.reward),
            done=jnp.concatenate([other.timestep.done[:, :first], done[:, first:]], axis=1),
        ),
        reward=spliced(other.reward, sequences.reward),
        carry=other.carry,
    )
    state = agent.init(jax.random.key(0))
    params = perturbed(state.params)

    @jax.jit
    def learn(sequences):
        inputs = of_replay(name, agent, state, sequences)
        return jax.value_and_grad(lambda params: agent._loss(params, *inputs)[0])(params)

    for got, expected in zip(
        *map(jax.tree.leaves, (learn(altered), learn(sequences))), strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
