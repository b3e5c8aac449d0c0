"""Time and memory of sliding attention, against a full mask of time x time at the same window.

For each length, both in one process and taking turns: ours, as it comes, and
``flax.linen.MultiHeadDotProductAttention`` with a band as its mask. At time 1, ours with a full
carry, against Flax's own cache of as many steps, which holds no more than that and does not slide.

Ratios above 1 mean that ours is faster or leaner. Temporary memory is that of the compiled program.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import tyro
from timing import medians

from memorax.networks import (
    ALiBi,
    LearnablePositionalEmbedding,
    RelativePositionalEmbedding,
    RoPE,
    SegmentRecurrence,
    SelfAttention,
    SelfAttentionConfig,
)

FEATURES, HEADS = 64, 4
LARGEST = 6 * 2**30
"""Bytes of temporary memory beyond which a program is not run."""

EMBEDDINGS = {
    "none": None,
    "rope": RoPE(),
    "alibi": ALiBi(HEADS),
    "learnable": LearnablePositionalEmbedding(),
    "transformer_xl": RelativePositionalEmbedding(FEATURES),
}


@dataclass
class Options:
    """Measure attention."""

    times: tuple[int, ...] = (1, 128, 1024, 4096)
    """Steps of a sequence; 1 is acting."""
    batch: int = 16
    """Sequences at a time."""
    context_length: int = 128
    """Steps that a query sees."""
    memory_length: int = 0
    """Steps that are remembered beyond them."""
    embedding: Literal["none", "rope", "alibi", "learnable", "transformer_xl"] = "none"
    """Positional embedding of ours; Flax has none."""
    passes: tuple[Literal["forward", "both"], ...] = ("forward", "both")
    """Forward alone, or forward and backward."""
    repeats: int = 7
    """Calls of each alternative, of which the median counts."""


def ours(options: Options):
    config = SelfAttentionConfig(
        FEATURES, HEADS, options.context_length, EMBEDDINGS[options.embedding]
    )
    attention = SelfAttention(config)
    if options.memory_length:
        return SegmentRecurrence(attention, options.memory_length, FEATURES)
    return attention


def flax_attention(decode: bool = False):
    return nn.MultiHeadDotProductAttention(HEADS, qkv_features=FEATURES, decode=decode)


def band(steps: int, context_length: int):
    distances = jnp.arange(steps)[:, None] - jnp.arange(steps)
    return ((distances >= 0) & (distances < context_length))[None, None]


def compiled(forward: Callable, both: bool, *arguments):
    def loss(*arguments):
        return (forward(*arguments) ** 2).sum()

    run = jax.value_and_grad(loss, argnums=(0, 1)) if both else forward
    program = jax.jit(run).lower(*arguments).compile()
    memory = program.memory_analysis().temp_size_in_bytes
    return (lambda: program(*arguments)), memory


def sequences(options: Options, steps: int, both: bool):
    inputs = jax.random.normal(jax.random.key(0), (options.batch, steps, FEATURES))
    model, flax_model = ours(options), flax_attention()
    params = model.init(jax.random.key(1), inputs[:, :1])
    flax_params = flax_model.init(jax.random.key(1), inputs[:, :1])

    def flax_forward(params, inputs):
        return flax_model.apply(params, inputs, mask=band(steps, options.context_length))

    return {
        "ours": compiled(lambda *arguments: model.apply(*arguments)[1], both, params, inputs),
        "flax": compiled(flax_forward, both, flax_params, inputs),
    }


def acting(options: Options):
    """Return both as one step after another, a hundred in a program."""
    inputs = jax.random.normal(jax.random.key(0), (100, options.batch, 1, FEATURES))
    model, flax_model = ours(options), flax_attention(decode=True)
    params = model.init(jax.random.key(1), inputs[0])
    past = jnp.ones((options.batch, options.context_length, FEATURES))
    carry, _ = model.apply(params, past)
    flax_variables = flax_model.init(jax.random.key(1), past)
    flax_params, cache = {"params": flax_variables["params"]}, flax_variables["cache"]

    def act(params, inputs, carry):
        def step(carry, inputs):
            return model.apply(params, inputs, initial_carry=carry)

        return jax.lax.scan(step, carry, inputs)

    def flax_act(params, inputs, cache):
        def step(cache, inputs):
            outputs, changed = flax_model.apply(
                params | {"cache": cache}, inputs, mutable=["cache"]
            )
            return changed["cache"], outputs

        return jax.lax.scan(step, cache, inputs)

    return {
        "ours": compiled(act, False, params, inputs, carry),
        "flax": compiled(flax_act, False, flax_params, inputs, cache),
    }


def main() -> None:
    options = tyro.cli(Options)
    print("| pass | time | ms | flax / ours in time | MiB | flax / ours in memory |")
    print("|---|---|---|---|---|---|")
    for name in options.passes:
        for steps in options.times:
            if steps == 1 and name == "both":
                continue
            programs = acting(options) if steps == 1 else sequences(options, steps, name == "both")
            fitting = {
                label: call for label, (call, memory) in programs.items() if memory <= LARGEST
            }
            seconds = medians(fitting, options.repeats)
            # A step of the hundred.
            milliseconds = seconds["ours"] * (10 if steps == 1 else 1000)
            faster = f"{seconds['flax'] / seconds['ours']:.2f}" if "flax" in seconds else "-"
            mebibytes = {label: memory / 2**20 for label, (_, memory) in programs.items()}
            leaner = mebibytes["flax"] / max(mebibytes["ours"], 0.1)
            print(
                f"| {'acting' if steps == 1 else name} | {steps} | {milliseconds:.2f} | {faster} "
                f"| {mebibytes['ours']:.1f} | {leaner:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
