import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from memorax.algorithms import DQNConfig, PPOConfig, PQNConfig, R2D2Config, SACConfig
from memorax.experiments.presets.heads import POLICY_HEADS, VALUE_HEADS
from memorax.experiments.presets.torsos import TORSOS, make_torso
from memorax.experiments.run import agents
from memorax.experiments.run.agents import make_agent
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.study.comparison_config import CompareConfig
from memorax.networks import heads

PENDULUM = "gymnax::Pendulum-v1"
DEMO = "gymnax::MemoryChain-bsuite"


def network_heads(agent):
    networks = agent.networks.values() if hasattr(agent, "networks") else [agent.network]
    parts = [[network.head] for network in networks]
    if "actor_critic" in getattr(agent, "networks", {}):
        parts = [[network.head.actor, network.head.critic] for network in networks]
    return [type(head).__name__ for heads_of_network in parts for head in heads_of_network]


@pytest.mark.parametrize(
    ("algorithm", "environment", "expected"),
    [
        (PPOConfig(), DEMO, ["Categorical", "VNetwork"]),
        (PPOConfig(), PENDULUM, ["Gaussian", "VNetwork"]),
        (DQNConfig(), DEMO, ["DiscreteQNetwork"]),
        (R2D2Config(), DEMO, ["DiscreteQNetwork"]),
        (PQNConfig(), DEMO, ["DiscreteQNetwork"]),
        (SACConfig(), PENDULUM, ["SquashedGaussian", "TwinContinuousQNetwork"]),
    ],
)
def test_heads_follow_the_algorithm_and_the_actions(algorithm, environment, expected):
    config = TrainConfig(environment=environment, algorithm=algorithm)
    assert network_heads(make_agent(config, "mlp")) == expected


@pytest.mark.parametrize(
    ("algorithm", "environment", "head", "expected"),
    [
        (PPOConfig(value_clip_coefficient=None), DEMO, "hl_gauss_v_network", heads.HLGaussVNetwork),
        (DQNConfig(), DEMO, "c51_q_network", heads.C51QNetwork),
        (DQNConfig(), DEMO, "dueling_q_network", heads.DiscreteQNetwork),
        (SACConfig(), PENDULUM, "continuous_q_network", heads.ContinuousQNetwork),
    ],
)
def test_heads_can_be_chosen(algorithm, environment, head, expected):
    config = TrainConfig(
        environment=environment, algorithm=algorithm, value_head=head, value_range=(-3.0, 4.0)
    )
    agent = make_agent(config, "mlp")
    networks = getattr(agent, "networks", {"critic": getattr(agent, "network", None)})
    head = heads.value_head(list(networks.values())[-1].head)
    assert isinstance(head, expected)
    if hasattr(head, "v_min"):
        assert (head.v_min, head.v_max) == (-3, 4)


def test_every_head_that_acts_or_values_has_a_name():
    others = {"ActorCritic", "GVF", "Horde", "Temperature"}
    modules = {
        name
        for name in heads.__all__
        if isinstance(getattr(heads, name), type) and hasattr(getattr(heads, name), "init")
    }
    assert len(modules - others) + 1 == len(POLICY_HEADS) + len(VALUE_HEADS)  # dueling has its own


def parameters(config, torso=None):
    """Return the shapes of a network's parameters, by their path, without making any."""
    agent = make_agent(config, torso or config.torso)
    params = jax.eval_shape(agent.init, jax.random.key(0)).params
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in leaves
    }


def size(*arguments):
    return sum(math.prod(shape) for shape in parameters(*arguments).values())


def test_ppos_actor_and_critic_share_a_memory_unless_told_otherwise():
    shared, separate = TrainConfig(), TrainConfig(shared_memory=False)
    assert list(make_agent(shared, "gru").networks) == ["actor_critic"]
    assert list(make_agent(separate, "gru").networks) == ["actor", "critic"]
    assert size(shared) < 0.6 * size(separate)


def test_gradients_are_checkpointed_where_there_is_a_memory():
    config = TrainConfig(gradient_checkpointing=True)
    for torso, checkpointed in (("gru", True), ("mlp", False)):
        (network,) = make_agent(config, torso).networks.values()
        assert network.gradient_checkpointing == checkpointed
    compared = CompareConfig(torsos=("gru", "mlp"), gradient_checkpointing=True).runs
    assert [run.config.gradient_checkpointing for run in compared] == [True, False]


def test_an_episodes_start_is_shown_and_previous_action_and_reward_on_request():
    def width(**fields):
        path = "actor_critic/params/feature_extractor/joint_extractor/layers_0/kernel"
        return parameters(TrainConfig(environment="gymnax::CartPole-v1", **fields))[path][0]

    assert width() == 64 + 1
    assert width(show_episode_start=False) == 64
    assert width(previous_inputs=True) == 64 + 1 + 16 + 16


def test_layers_add_up():
    one, two, three = (size(TrainConfig(torso="lru", num_layers=layers)) for layers in (1, 2, 3))
    assert three - two == two - one > 0
    assert size(TrainConfig(torso="lru")) == two


def test_heads_have_a_hidden_layer_of_their_own():
    head = "actor_critic/params/head/{}/{}_hidden_0/kernel".format
    shapes = parameters(TrainConfig(features=8))
    assert shapes[head("actor", "policy")] == shapes[head("critic", "value")] == (8, 8)
    assert parameters(TrainConfig(features=8, head_features=5))[head("actor", "policy")] == (8, 5)
    assert head("actor", "policy") not in parameters(TrainConfig(head_features=0))


def test_sacs_critics_are_as_wide_as_published_unless_told_otherwise():
    config = TrainConfig(environment=PENDULUM, algorithm=SACConfig())
    critic = make_agent(config, "gru").networks["critic"].head
    assert critic.hidden_dims == (256, 256)
    critic = make_agent(replace(config, head_features=32), "gru").networks["critic"].head
    assert critic.hidden_dims == (32, 32)


def test_the_recurrences_learning_rate_is_scaled_apart_from_the_rest():
    algorithm = PPOConfig(num_envs=4, num_steps=8, num_minibatches=1, update_epochs=1)
    config = TrainConfig(
        torso="lru",
        num_layers=1,
        features=8,
        algorithm=algorithm,
        recurrence_learning_rate_scale=0.0,
    )
    agent = make_agent(config, "lru")
    state = agent.init(jax.random.key(0))
    trained, _ = agent.train(jax.random.key(1), state, 32)
    before, after = (jax.tree_util.tree_leaves_with_path(s.params) for s in (state, trained))
    same = {
        path[-1].key
        for (path, old), (_, new) in zip(before, after, strict=True)
        if (old == new).all()
    }
    assert same == {"nu_log", "theta_log", "gamma_log"}


def test_names_build_their_default_layers_and_take_a_horizon_where_they_have_one():
    for name, torso in TORSOS.items():
        # Modules compare by their fields, through all layers; an MLP's activations are functions.
        if torso.has_memory_horizon:
            assert make_torso(name, 8, 2, 50.0) != make_torso(name, 8, 2, 60.0)
            assert make_torso(name, 8) == make_torso(name, 8, torso.num_layers)


@pytest.mark.parametrize("name", sorted(TORSOS.keys() - {"mlp", "rl2_gru"}))
def test_a_torso_is_refused_where_it_is_too_narrow_and_built_from_there_on(name):
    def build(features):
        inputs, done = jnp.zeros((2, 1, features)), jnp.zeros((2, 1), bool)
        model = make_torso(name, features)
        jax.eval_shape(lambda: model.init(jax.random.key(0), inputs, done=done))

    torso = TORSOS[name]
    divisor = torso.features_divisor
    least = max(torso.least_features, divisor)
    for features in {1, least - 1, least - divisor, least + divisor - 1} - {0, least}:
        with pytest.raises(ValueError, match=f"torso {name}, got {features}$"):
            TrainConfig(torso=name, features=features)
        with pytest.raises(ValueError, match=r"features|hidden_dim|single|head"):
            build(features)
    for features in (least, least + divisor):
        assert TrainConfig(torso=name, features=features).features == features
        build(features)


@pytest.mark.parametrize(
    ("algorithm", "optimizer_steps"),
    [
        (PPOConfig(target_kl=0.01), 10 * 16),
        (PQNConfig(), 20 * 16),
        # The first 9 of 40 updates of 512 steps do not reach the 5,000 that learning starts with.
        (DQNConfig(), 31 * 8),
    ],
)
def test_the_learning_rate_falls_to_zero_over_what_is_trained(
    algorithm, optimizer_steps, monkeypatch
):
    lengths = []

    def linear_schedule(start, end, steps):
        lengths.append((start, end, steps))
        return start

    monkeypatch.setattr(agents.optax, "linear_schedule", linear_schedule)
    config = TrainConfig(algorithm=algorithm, total_steps=20_000, learning_rate=0.25)
    make_agent(config, "mlp")
    assert lengths == [(0.25, 0.0, optimizer_steps)]


def test_more_steps_of_the_optimizer_than_a_schedule_counts_are_refused(as_a_user):
    algorithm = DQNConfig(num_envs=1, num_steps=1, batch_size=1, gradient_steps=4)
    config = TrainConfig(algorithm=algorithm, total_steps=2**32 - 1)
    with pytest.raises(ValueError, match="anneal_learning_rate must be False for more than 2147"):
        make_agent(config, "mlp")


def test_a_memory_across_episodes_is_shown_what_came_before_each():
    agent = make_agent(TrainConfig(torso="rl2_gru", features=8), "rl2_gru")
    extractor = agent.networks["actor_critic"].feature_extractor
    assert extractor.across_episodes
    assert None not in (extractor.action_extractor, extractor.reward_extractor)
    plain = make_agent(TrainConfig(features=8), "gru").networks["actor_critic"].feature_extractor
    assert not plain.across_episodes
