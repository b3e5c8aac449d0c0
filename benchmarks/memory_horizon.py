"""Draw how far back six torsos reach before any training: the picture in docs/inspect.md."""

from dataclasses import dataclass
from pathlib import Path

import flax.linen as nn
import jax
import tyro

from memorax.networks import (
    RNN,
    LRUCell,
    LRUConfig,
    Mamba2Cell,
    Mamba2Config,
    Memoroid,
    SelfAttention,
    SelfAttentionConfig,
    inspect,
    mLSTMCell,
    mLSTMConfig,
)

FEATURES, BATCH, TIME = 64, 8, 256

TORSOS = {
    "GRU": RNN(cell=nn.GRUCell(FEATURES)),
    "LSTM": RNN(cell=nn.LSTMCell(FEATURES)),
    "LRU": Memoroid(LRUCell(LRUConfig(FEATURES, hidden_dim=FEATURES))),
    "Mamba-2": Memoroid(Mamba2Cell(Mamba2Config(FEATURES))),
    "mLSTM": Memoroid(mLSTMCell(mLSTMConfig(FEATURES, hidden_dim=FEATURES, num_heads=4))),
    "attention": SelfAttention(SelfAttentionConfig(FEATURES, num_heads=4, context_length=128)),
}


@dataclass
class Options:
    """Draw the memory horizon of six torsos."""

    output: Path = Path("docs/images/memory_horizon.png")
    """The picture's file."""


def main(options: Options) -> None:
    inputs = jax.random.normal(jax.random.key(0), (BATCH, TIME, FEATURES))
    horizons = {}
    for name, torso in TORSOS.items():
        params = torso.init(jax.random.key(1), inputs)
        horizons[name] = inspect.memory_horizon(torso, params, inputs)
        shown = ", ".join(f"{k} back {horizons[name][k]:.1e}" for k in (0, 1, 16, 64, 127, 255))
        print(f"{name}: {shown}")
    inspect.plot_memory_horizon(horizons, options.output)


if __name__ == "__main__":
    main(tyro.cli(Options))
