"""Small agents for the tests of algorithms."""

import flax.linen as nn
import optax

from memorax import environments
from memorax.algorithms import PPO, PPOConfig
from memorax.environments import Discrete
from memorax.networks import RNN, FeatureExtractor, Network, heads


def mlp_torso(features=16):
    return nn.Sequential((nn.Dense(features), nn.relu))


def gru_torso(features=16):
    return RNN(cell=nn.GRUCell(features=features))


def make_networks(torso, space, all_extractors=False):
    """Return actor and critic.

    The policy's kernel is large, unlike the default: a policy that hardly looks at its features
    would hide that they are wrong.
    """
    discrete = isinstance(space, Discrete)
    kernel_init = nn.initializers.orthogonal(1.0)
    if discrete:
        policy = heads.Categorical(action_dim=space.n, kernel_init=kernel_init)
    else:
        policy = heads.Gaussian(action_dim=space.shape[0], kernel_init=kernel_init)

    def network(head):
        extractors = (
            {
                "action_extractor": nn.Dense(4),
                "reward_extractor": nn.Dense(4),
                "done_extractor": nn.Dense(4),
                "action_dim": space.n if discrete else None,
            }
            if all_extractors
            else {}
        )
        extractor = FeatureExtractor(
            observation_extractor=nn.Sequential((nn.Dense(16), nn.relu)), **extractors
        )
        return Network(feature_extractor=extractor, torso=torso, head=head)

    return network(policy), network(heads.VNetwork())


def make_agent(
    torso,
    env=None,
    env_params=None,
    all_extractors=False,
    optimizer=None,
    **config,
):
    """Return PPO on ``env``, or on a memory chain whose episodes are shorter than rollouts."""
    if env is None:
        env, env_params = environments.make("gymnax::MemoryChain-bsuite", memory_length=4)
    config = PPOConfig(**{"num_envs": 4, "num_steps": 16, "num_minibatches": 2} | config)
    actor, critic = make_networks(torso, env.action_space(env_params), all_extractors)
    return PPO(config, env, env_params, actor, critic, optimizer or optax.adam(1e-3))
