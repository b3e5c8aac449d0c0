"""Time and memory of every torso, against the usual ways of running the same recurrence.

For each length and batch, forward and forward with backward, all in one process and interleaved:

- ours: the torso as it comes;
- (a) the same recurrence as an associative scan over every state, with reset flags;
- (b) the same recurrence as a plain ``lax.scan`` over steps, differentiated by JAX; for the cells
  of Flax, Flax's own ``nn.RNN``;
- (c) the model of the ``memax`` package with as many numbers of state, where it has it in Flax and
  is installed (``pip install memax``);
- (d) ``flax.linen.RNN(GRUCell)`` of the same width, which is what one would take instead.

Ratios above 1 mean that ours is faster. Temporary memory is that of the compiled program.
"""

import contextlib
import importlib.util
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib
import tyro
from timing import machine, medians

from memorax import networks, ops
from memorax.networks import RNN, Memoroid

FEATURES = 64
LARGEST = 6 * 2**30
"""Bytes of temporary memory beyond which a program is not run."""


def memoroid(name: str, **sizes: int) -> Callable[[str], Memoroid]:
    cell, config = getattr(networks, f"{name}Cell"), getattr(networks, f"{name}Config")
    return lambda implementation: Memoroid(
        cell=cell(config=config(features=FEATURES, **sizes)), implementation=implementation
    )


MEMOROIDS = {
    "Mamba-2": memoroid("Mamba2"),
    "mLSTM": memoroid("mLSTM", hidden_dim=64, num_heads=4),
    "linear attention": memoroid("LinearAttention", num_heads=4, head_dim=16),
    "DeltaNet": memoroid("DeltaNet"),
    "Gated DeltaNet": memoroid("GatedDeltaNet"),
    "Kimi Delta Attention": memoroid("KimiDeltaAttention"),
    "RWKV-7": memoroid("RWKV7"),
    "gated linear attention": memoroid("GatedLinearAttention"),
    "Mamba-3": memoroid("Mamba3"),
    "RG-LRU": memoroid("RGLRU"),
    "S5": memoroid("S5", hidden_dim=64),
    "LRU": memoroid("LRU", hidden_dim=64),
    "MinGRU": memoroid("MinGRU"),
    "FFM": memoroid("FFM"),
}


def rnn(name: str, **sizes: int) -> Callable[[], RNN]:
    cell, config = getattr(networks, f"{name}Cell"), getattr(networks, f"{name}Config")
    return lambda: RNN(cell=cell(config=config(**sizes)))


RNNS = {
    "GRU": lambda: RNN(cell=nn.GRUCell(FEATURES)),
    "LSTM": lambda: RNN(cell=nn.LSTMCell(FEATURES)),
    "sLSTM": rnn("sLSTM", features=FEATURES, hidden_dim=64, num_heads=4),
    "SHM": rnn("SHM", features=16, output_features=FEATURES),
    "RTU": rnn("RTU", features=FEATURES, hidden_dim=64),
}
FLAX_CELLS = {"GRU": nn.GRUCell, "LSTM": nn.LSTMCell}
BASELINE = "(d) Flax GRU"


@dataclass
class Options:
    """Measure sequence models."""

    models: tuple[str, ...] = (*MEMOROIDS, *RNNS)
    """Which models, by name."""
    times: tuple[int, ...] = (1, 32, 128, 1024, 4096)
    """Steps of a sequence."""
    batches: tuple[int, ...] = (1, 16)
    """Sequences at a time."""
    passes: tuple[Literal["forward", "both"], ...] = ("forward", "both")
    """Forward alone, or forward and backward."""
    repeats: int = 7
    """Calls of each alternative, of which the median counts."""
    output: Path | None = None
    """Folder for sequence_models.md, .json and .png, whose earlier rows are kept where they are not
    measured anew; None: only print."""
    references: bool = True
    """Whether (a), (b) and (c) are measured too."""


def reset_before(done, state):
    return jnp.where(done.reshape(done.shape + (1,) * (state.ndim - 1)), 0, state)


def plain_scan(decay, inputs, done, initial_state, implementation, chunk_size):
    """Run a linear recurrence step by step, as one would write it down."""
    per_step = decay.ndim > initial_state.ndim

    def step(state, at_time):
        inputs, done, *own = at_time
        state = (own[0] if per_step else decay) * reset_before(done, state) + inputs
        return state, state

    over = [inputs, done, *([decay] if per_step else [])]
    state, states = jax.lax.scan(step, initial_state, [jnp.swapaxes(x, 0, 1) for x in over])
    return state, jnp.swapaxes(states, 0, 1)


def flagged_scan(decay, inputs, done, initial_state, implementation, chunk_size):
    """Run a linear recurrence as an associative scan over every state, with reset flags."""
    shape = (*done.shape, *initial_state.shape[1:])
    decay, inputs = jnp.broadcast_to(decay, shape), jnp.broadcast_to(inputs, shape)

    def combine(earlier, later):
        (a, b), (next_a, next_b) = earlier, later
        return next_a * a, next_a * b + next_b

    initial = jnp.ones_like(initial_state), initial_state
    _, (_, states) = ops.associative_scan(
        combine, (decay, inputs.astype(initial_state.dtype)), done, initial
    )
    return states[:, -1], states


@contextlib.contextmanager
def recurrence_run_by(function: Callable | None) -> Iterator[None]:
    """Let cells trace with another function in place of ``ops.linear_recurrence``."""
    ours = ops.linear_recurrence
    ops.linear_recurrence = function or ours
    try:
        yield
    finally:
        ops.linear_recurrence = ours


def alternatives(name: str, references: bool) -> dict[str, tuple[Any, Callable | None]]:
    """Return the models to measure and, for the references, what runs their recurrence."""
    if name in RNNS:
        return {"ours": (RNNS[name](), None)}
    build = MEMOROIDS[name]
    models = {"ours": (build("auto"), None)}
    if references:
        if "associative" in models["ours"][0].cell.implementations:
            models["(a) associative"] = (build("associative"), flagged_scan)
        models["(b) scan"] = (build("sequential"), plain_scan)
    return models


def memax_model(name: str) -> Any | None:
    """Return memax's model of the name, if there is one."""
    if name not in ("LRU", "linear attention", "GRU") or not importlib.util.find_spec("memax"):
        return None
    from memax.linen.semigroups.fart import FART  # noqa: PLC0415
    from memax.linen.semigroups.lru import LRU  # noqa: PLC0415
    from memax.linen.set_actions.gru import GRU  # noqa: PLC0415

    # One head of 32 x 32 holds what ours holds in four of 16 x 16.
    model, size = {"LRU": (LRU, 64), "linear attention": (FART, 32), "GRU": (GRU, 64)}[name]
    sizes = {"recurrent_size": size} | ({} if model is GRU else {"hidden_size": FEATURES})
    algebra = model.default_algebra(recurrent_size=size)
    return model(algebra=algebra, scan=model.default_scan(), **sizes)


def compile_program(apply: Callable, both: bool, batch: int, steps: int, params: Any):
    inputs = jax.random.normal(jax.random.key(0), (batch, steps, FEATURES))
    done = jax.random.bernoulli(jax.random.key(1), 0.01, (batch, steps))

    def forward(params, inputs):
        return apply(params, inputs, done)

    def loss(params, inputs):
        return (forward(params, inputs) ** 2).sum()

    run = jax.value_and_grad(loss, argnums=(0, 1)) if both else forward
    started = time.perf_counter()
    program = jax.jit(run).lower(params, inputs).compile()
    seconds = time.perf_counter() - started
    memory = program.memory_analysis().temp_size_in_bytes
    return (lambda: program(params, inputs)), memory, seconds


def measure(options: Options, name: str, batch: int, steps: int, passes: str) -> dict[str, Any]:
    programs, skipped = {}, []
    inputs = jnp.zeros((batch, 1, FEATURES))
    models = alternatives(name, options.references)
    for label, (model, recurrence) in models.items():
        params = model.init(jax.random.key(0), inputs)

        def apply(params, inputs, done, model=model):
            return model.apply(params, inputs, done)[1]

        with recurrence_run_by(recurrence):
            call, memory, seconds = compile_program(apply, passes == "both", batch, steps, params)
        if memory > LARGEST:
            skipped.append(label)
            continue
        programs[label] = (call, memory, seconds)
    memax = memax_model(name) if options.references else None
    if memax is not None:
        carry = memax.zero_carry()
        params = memax.init(jax.random.key(0), carry, (inputs[0], jnp.zeros(1, bool)))

        def apply_memax(params, inputs, done):
            row = lambda inputs, done: memax.apply(params, carry, (inputs, done))[1]  # noqa: E731
            return jax.vmap(row)(inputs, done)

        programs["(c) memax"] = compile_program(apply_memax, passes == "both", batch, steps, params)
    flax_models = {BASELINE: nn.RNN(nn.GRUCell(FEATURES))}
    if options.references and name in FLAX_CELLS:
        flax_models["(b) scan"] = nn.RNN(FLAX_CELLS[name](FEATURES))
    for label, model in flax_models.items():

        def apply_flax(params, inputs, done, model=model):
            return model.apply(params, inputs)

        params = model.init(jax.random.key(0), inputs)
        programs[label] = compile_program(apply_flax, passes == "both", batch, steps, params)
    seconds = medians({label: call for label, (call, *_) in programs.items()}, options.repeats)
    return {
        "model": name,
        "batch": batch,
        "time": steps,
        "passes": passes,
        "milliseconds": {label: 1e3 * value for label, value in seconds.items()},
        "mebibytes": {label: memory / 2**20 for label, (_, memory, _) in programs.items()},
        "compile_seconds": {label: spent for label, (*_, spent) in programs.items()},
        "does_not_fit": skipped,
    }


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| model | pass | batch | time | ms | GRUs in time | MiB | GRUs in memory | compile s "
        "| (a) / ours | (b) / ours | (c) / ours |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ms, mebibytes = row["milliseconds"], row["mebibytes"]

        def ratio(label, row=row, ms=ms):
            if label in row["does_not_fit"]:
                return "does not fit"
            return f"{ms[label] / ms['ours']:.2f}" if label in ms else "-"

        lines.append(
            f"| {row['model']} | {row['passes']} | {row['batch']} | {row['time']} "
            f"| {ms['ours']:.2f} | {ms['ours'] / ms[BASELINE]:.2f} "
            f"| {mebibytes['ours']:.1f} | {mebibytes['ours'] / max(mebibytes[BASELINE], 0.1):.2f} "
            f"| {row['compile_seconds']['ours']:.1f} "
            f"| {ratio('(a) associative')} | {ratio('(b) scan')} | {ratio('(c) memax')} |"
        )
    return "\n".join(lines)


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    rows = [row for row in rows if row["batch"] == 16 and row["passes"] == "both"]
    figure, axes = plt.subplots(figsize=(8, 5))
    for name in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == name]
        times = [row["time"] for row in own]
        axes.loglog(times, [row["milliseconds"]["ours"] for row in own], marker="o", label=name)
    gru: dict[int, list[float]] = {}
    for row in rows:
        gru.setdefault(row["time"], []).append(row["milliseconds"][BASELINE])
    means = [sum(values) / len(values) for values in gru.values()]
    axes.loglog(list(gru), means, color="black", linestyle="--", label="Flax GRU")
    axes.set(xlabel="steps", ylabel="milliseconds, forward and backward, batch 16")
    axes.grid(which="both", alpha=0.3)
    axes.legend(fontsize=8, ncols=2)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main() -> None:
    options, rows = tyro.cli(Options), []
    for passes in options.passes:
        for name in options.models:
            for batch in options.batches:
                for steps in options.times:
                    row = measure(options, name, batch, steps, passes)
                    rows.append(row)
                    print(table([row]).splitlines()[-1], flush=True)
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        report = options.output / "sequence_models.json"
        rows = merged(report, rows)
        text = f"Measured on {machine()}.\n\n{table(rows)}\n"
        (options.output / "sequence_models.md").write_text(text)
        report.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")
        plot(rows, options.output / "sequence_models.png")


def merged(report: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows that a report on the same machine has, with the new ones in their places."""
    earlier = json.loads(report.read_text()) if report.exists() else {"machine": machine()}
    if earlier["machine"] != machine():
        raise SystemExit(f"{report} was measured on {earlier['machine']}, this is {machine()}")

    def place(row):
        return row["passes"], row["model"], row["batch"], row["time"]

    return list({place(row): row for row in [*earlier.get("rows", []), *rows]}.values())


if __name__ == "__main__":
    main()
