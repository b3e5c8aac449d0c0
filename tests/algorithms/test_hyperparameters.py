"""Hyperparameters as leaves of a pytree, and programs that live no longer than their agent."""

import dataclasses
import gc
import weakref
from dataclasses import replace
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax.algorithms import PPO, DQNConfig, PPOConfig, PQNConfig, R2D2Config, SACConfig
from tests.algorithms.agents import make_agent, make_dqn, make_pqn, make_sac, mlp_torso

OPTIONAL = {
    "ppo": {"target_kl": 0.5, "advantage": "vtrace"},
    "dqn": {"priority_exponent": 0.6},
    "sac": {"target_entropy": -1.0},
}
MAKERS = {
    "ppo": lambda **config: make_agent(mlp_torso(8), **config),
    "dqn": lambda **config: make_dqn(mlp_torso(8), learning_starts=16, **config),
    "pqn": lambda **config: make_pqn(mlp_torso(8), **config),
    "sac": lambda **config: make_sac(mlp_torso(8), learning_starts=16, **config),
}
every_algorithm = pytest.mark.parametrize("name", MAKERS)


def losses_of(agent, num_updates=4):
    """Return what the losses were while an agent trained."""
    state = agent.init(jax.random.key(0))
    _, metrics = agent.train(jax.random.key(1), state, num_updates * agent.steps_per_update)
    return {name: values for name, values in metrics.items() if not name.startswith("episode_")}


@pytest.mark.usefixtures("as_a_user")
@every_algorithm
def test_every_real_hyperparameter_maps_over_values_as_training_with_each_does(name):
    config = MAKERS[name](**OPTIONAL.get(name, {})).config
    paths = jax.tree_util.tree_leaves_with_path(config)
    numbers = {path[0].name: value for path, value in paths}
    assert set(numbers) >= {
        field.name for field in dataclasses.fields(config) if field.type in (float, float | None)
    } - {"value_clip_coefficient"}
    factors = jnp.asarray([1.0, 0.9])

    def train(factor):
        given = {name: value * factor for name, value in numbers.items()}
        return losses_of(MAKERS[name](**OPTIONAL.get(name, {}) | given))

    together = jax.vmap(train)(factors)
    for row, factor in enumerate(factors.tolist()):
        alone = train(factor)
        for metric, values in alone.items():
            np.testing.assert_allclose(
                together[metric][row], values, rtol=2e-3, atol=1e-4, err_msg=metric
            )


@pytest.mark.usefixtures("as_a_user", "drawn_parameters")
@every_algorithm
def test_an_agent_is_an_argument_whose_leaves_are_its_hyperparameters(name):
    agent = MAKERS[name]()
    leaves, structure = jax.tree.flatten(agent)
    assert leaves == jax.tree.leaves(agent.config)
    assert jax.tree.structure(jax.tree.map(jnp.asarray, agent)) == structure
    other = replace(agent.config, gamma=0.5)
    traced = jax.jit(partial(losses_of, num_updates=4))
    for config in (agent.config, other):
        for metric, values in losses_of(agent._with_config(config)).items():
            given = traced(agent._with_config(config))[metric]
            np.testing.assert_allclose(given, values, rtol=2e-3, atol=1e-4, err_msg=metric)
    assert traced._cache_size() == 1


@pytest.mark.usefixtures("drawn_parameters")
@pytest.mark.parametrize("name", ["pqn", "dqn"])
def test_agents_made_in_a_loop_are_freed_with_their_programs(name):
    def programs():
        gc.collect()
        return len(jax.devices()[0].client.live_executables())

    agents, counts = [], []
    for gamma in np.linspace(0.5, 0.99, 20 if name == "pqn" else 3).tolist():
        agent = MAKERS[name](gamma=gamma)
        agents.append(weakref.ref(agent))
        losses_of(agent, 1)
        agent.evaluate(jax.random.key(2), agent.init(jax.random.key(0)), 2)
        del agent
        counts.append(programs())
    assert not any(agent() for agent in agents)
    # The first may have compiled what all share, such as the making of keys.
    assert max(counts[1:]) <= counts[0]


@pytest.mark.parametrize("name", ["dqn", "sac"])
def test_a_target_network_keeps_parameters_of_16_bits(name):
    torso = nn.Dense(8, param_dtype=jnp.bfloat16)
    agent = {"dqn": make_dqn, "sac": make_sac}[name](torso, learning_starts=16)
    key = jax.random.key(0)
    state = jax.eval_shape(agent.init, key)
    trained, _ = jax.eval_shape(lambda state: agent.train(key, state, 32), state)
    assert jax.tree.map(lambda leaf: leaf.dtype, trained.learner.target_params) == jax.tree.map(
        lambda leaf: leaf.dtype, state.learner.target_params
    )


@pytest.mark.parametrize("config", [PPOConfig, DQNConfig, R2D2Config, PQNConfig, SACConfig])
def test_a_configuration_is_rebuilt_as_it_was(config):
    leaves, structure = jax.tree.flatten(config())
    assert jax.tree.unflatten(structure, leaves) == config()
    assert all(type(leaf) is float for leaf in leaves)


@dataclasses.dataclass(frozen=True)
class Undecorated(PPOConfig):
    temperature: float = 1.0


def test_a_configuration_that_is_no_pytree_is_refused():
    agent = MAKERS["ppo"]()
    actor, critic = agent.networks.values()
    config = Undecorated(num_envs=4, num_steps=16, num_minibatches=2)
    with pytest.raises(ValueError, match=r"PPO\.config must be of a class decorated with"):
        PPO(config, agent.env, agent.env_params, actor, critic, agent.optimizer)


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize("value", [np.float32(0.5), jnp.float32(0.5), jnp.asarray(1)])
def test_a_scalar_array_is_a_number(value):
    assert PPOConfig(gamma=value).gamma is value


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize(
    "value", [jnp.float32(1.5), jnp.asarray([0.5]), jnp.bool_(True), np.float32(np.nan)]
)
def test_an_array_that_is_no_number_in_the_range_is_refused(value):
    with pytest.raises(ValueError, match=r"PPOConfig\.gamma must be a number from 0 to 1"):
        PPOConfig(gamma=value)
