"""How far back torsos reach before any training, and what they carry.

Draws the picture in docs/inspect.md and writes the numbers in docs/sequence_models.md.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import tyro

from memorax import networks
from memorax.networks import RNN, Memoroid, SelfAttention, SelfAttentionConfig, inspect

FEATURES, BATCH, TIME = 64, 8, 256
SMALLEST_SHARE = 1e-3
"""Of the largest gradient, which counts as reached."""


def cell(name: str, **sizes: int):
    return getattr(networks, f"{name}Cell")(config=getattr(networks, f"{name}Config")(**sizes))


# Of the sizes that benchmarks/sequence_models.py times.
TORSOS = {
    "GRU": RNN(nn.GRUCell(FEATURES)),
    "LSTM": RNN(nn.LSTMCell(FEATURES)),
    "sLSTM": RNN(cell("sLSTM", features=FEATURES, hidden_dim=64, num_heads=4)),
    "SHM": RNN(cell("SHM", features=16, output_features=FEATURES)),
    "RTU": RNN(cell("RTU", features=FEATURES, hidden_dim=64)),
    "LRU": Memoroid(cell("LRU", features=FEATURES, hidden_dim=64)),
    "S5": Memoroid(cell("S5", features=FEATURES, hidden_dim=64)),
    "MinGRU": Memoroid(cell("MinGRU", features=FEATURES)),
    "FFM": Memoroid(cell("FFM", features=FEATURES)),
    "Mamba-2": Memoroid(cell("Mamba2", features=FEATURES)),
    "mLSTM": Memoroid(cell("mLSTM", features=FEATURES, hidden_dim=64, num_heads=4)),
    "linear attention": Memoroid(
        cell("LinearAttention", features=FEATURES, num_heads=4, head_dim=16)
    ),
    "DeltaNet": Memoroid(cell("DeltaNet", features=FEATURES)),
    "Gated DeltaNet": Memoroid(cell("GatedDeltaNet", features=FEATURES)),
    "Kimi Delta Attention": Memoroid(cell("KimiDeltaAttention", features=FEATURES)),
    "RWKV-7": Memoroid(cell("RWKV7", features=FEATURES)),
    "gated linear attention": Memoroid(cell("GatedLinearAttention", features=FEATURES)),
    "Mamba-3": Memoroid(cell("Mamba3", features=FEATURES)),
    "RG-LRU": Memoroid(cell("RGLRU", features=FEATURES)),
    "attention": SelfAttention(SelfAttentionConfig(FEATURES, num_heads=4, context_length=128)),
}
PICTURED = ("GRU", "LSTM", "LRU", "Mamba-2", "mLSTM", "attention")


@dataclass
class Options:
    """Measure and draw the memory horizon of torsos before any training."""

    output: Path = Path("docs/images/memory_horizon.png")
    """The picture's file."""
    numbers: Path = Path("docs/results/memory_horizon.json")
    """The numbers' file."""


def main(options: Options) -> None:
    inputs = jax.random.normal(jax.random.key(0), (BATCH, TIME, FEATURES))
    horizons, rows = {}, []
    for name, torso in TORSOS.items():
        params = torso.init(jax.random.key(1), inputs)
        whole = inspect.summary(torso, params)[""]
        horizon = horizons[name] = np.asarray(inspect.memory_horizon(torso, params, inputs))
        reached = np.flatnonzero(horizon >= SMALLEST_SHARE * horizon.max())
        row = {
            "model": name,
            "parameters": whole.parameters,
            "carry_bytes": whole.carry_bytes,
            "reach": int(reached.max()),
        }
        shown = {str(k): float(horizon[k]) for k in (0, 1, 16, 64, 127, 128, 255)}
        rows.append(row | {"horizon": shown})
        print(row, ", ".join(f"{k} back {value:.1e}" for k, value in shown.items()))
    numbers = {"time": TIME, "smallest_share": SMALLEST_SHARE, "rows": rows}
    options.numbers.write_text(json.dumps(numbers, indent=1) + "\n")
    inspect.plot_memory_horizon({name: horizons[name] for name in PICTURED}, options.output)


if __name__ == "__main__":
    main(tyro.cli(Options))
