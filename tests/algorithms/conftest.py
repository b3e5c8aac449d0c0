import functools
import itertools

import jax
import pytest

from memorax.algorithms import dqn, rollout, sac
from memorax.algorithms.acting import init_network
from tests.networks.samples import draw


@pytest.fixture
def drawn_parameters(monkeypatch):
    """Let agents begin with drawn parameters: compiling initializers takes longer than most tests.

    No two networks begin alike.
    """
    seeds = itertools.count()

    def draw_network(network, key, timestep):
        shapes = jax.eval_shape(functools.partial(init_network, network), key, timestep)
        return draw(shapes, next(seeds))

    for algorithm in (dqn, rollout, sac):
        monkeypatch.setattr(algorithm, "init_network", draw_network)
