import pytest

from memorax.algorithms import DQNConfig, PPOConfig, PQNConfig, R2D2Config, SACConfig
from memorax.experiments.agents import make_agent
from memorax.experiments.config import TrainConfig
from memorax.experiments.heads import POLICY_HEADS, VALUE_HEADS
from memorax.networks import heads

PENDULUM = "gymnax::Pendulum-v1"
DEMO = "gymnax::MemoryChain-bsuite"


def network_heads(agent):
    networks = agent.networks.values() if hasattr(agent, "networks") else [agent.network]
    return [type(network.head).__name__ for network in networks]


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
    head = (agent.networks["critic"] if hasattr(agent, "networks") else agent.network).head
    assert isinstance(head, expected)
    if hasattr(head, "v_min"):
        assert (head.v_min, head.v_max) == (-3, 4)


def test_every_head_that_acts_or_values_has_a_name():
    others = {"GVF", "Horde", "Temperature"}
    modules = {
        name
        for name in heads.__all__
        if isinstance(getattr(heads, name), type) and hasattr(getattr(heads, name), "init")
    }
    assert len(modules - others) + 1 == len(POLICY_HEADS) + len(VALUE_HEADS)  # dueling has its own
