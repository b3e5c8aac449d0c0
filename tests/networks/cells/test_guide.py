import jax
import jax.numpy as jnp
import pytest

# As in the user's guide, to the letter.
GUIDE = """
import flax.linen as nn
from memorax.networks import RNN
from memorax.networks import Memoroid, Mamba2Cell, Mamba2Config, S5Cell, S5Config, LRUCell, LRUConfig, mLSTMCell, mLSTMConfig, MinGRUCell, MinGRUConfig, FFMCell, FFMConfig
from memorax.networks import LinearAttentionCell, LinearAttentionConfig
"""  # noqa: E501

TORSOS = """
RNN(cell=nn.GRUCell(features=64))
RNN(cell=nn.LSTMCell(features=64))
Memoroid(cell=Mamba2Cell(config=Mamba2Config(features=64)))
Memoroid(cell=S5Cell(config=S5Config(features=64, hidden_dim=64)))
Memoroid(cell=LRUCell(config=LRUConfig(features=64, hidden_dim=64)))
Memoroid(cell=mLSTMCell(config=mLSTMConfig(features=64, hidden_dim=64, num_heads=4)))
Memoroid(cell=LinearAttentionCell(config=LinearAttentionConfig(features=64, num_heads=4, head_dim=16)))
""".strip().splitlines()  # noqa: E501


@pytest.mark.parametrize("line", TORSOS)
def test_the_guides_torsos_read_features_of_another_width(line):
    scope = {}
    exec(GUIDE, scope)
    torso = eval(line, scope)
    inputs = jnp.ones((2, 3, 32))
    (_, outputs), _ = jax.eval_shape(torso.init_with_output, jax.random.key(0), inputs)
    assert outputs.shape == (2, 3, 64)
