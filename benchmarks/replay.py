"""Drawing by priority from a sum tree and from a cumulative sum, and adding to a replay.

Both forms take turns in one process: a batch is drawn and its priorities are set again, as in a
gradient step. Adding goes to a donated replay, whose time must not grow with the capacity.
"""

import argparse
import json
from functools import partial

import jax
import jax.numpy as jnp
from timing import minima

from memorax.buffers import SequenceReplay
from memorax.buffers.sum_tree import draw_leaves, init_tree, set_weights

CAPACITIES = 1_000, 10_000, 100_000, 1_000_000
BATCH, NUM_ENVS = 64, 10
# One call takes microseconds, of which most would be that of calling.
STEPS = 50


def draw_from_cumulative_sum(weights, fractions):
    """Return the places at fractions of the sum, and of those without a weight the nearest before.

    Where rounding leads to a place without weight, the nearest before it is searched for, or the
    first if there is none.
    """
    sums = jnp.cumsum(weights)
    below_total = jnp.nextafter(sums[-1], 0)
    drawn = jnp.searchsorted(sums, jnp.minimum(fractions * sums[-1], below_total), side="right")
    drawn = jnp.minimum(drawn, weights.shape[0] - 1)

    def nearest(drawn):
        places = jnp.where(weights > 0, jnp.arange(weights.shape[0]), -1)
        before = jax.lax.cummax(places)[drawn]
        return jnp.where(before < 0, jnp.argmax(weights > 0), before)

    return jax.lax.cond((weights[drawn] > 0).all(), lambda drawn: drawn, nearest, drawn)


def set_in_array(weights, places, values):
    return weights.at[places].set(values)


def repeated(draw, set_values, weights):
    """Return a call that draws and sets priorities, ``STEPS`` times, of weights that it keeps."""

    @partial(jax.jit, donate_argnums=0)
    def run(weights, key):
        def step(weights, key):
            fractions = (jnp.arange(BATCH) + jax.random.uniform(key, (BATCH,))) / BATCH
            drawn = draw(weights, fractions)
            return set_values(weights, drawn, 0.5 + jax.random.uniform(key, (BATCH,))), None

        return jax.lax.scan(step, weights, jax.random.split(key, STEPS))[0]

    kept = [weights]

    def call():
        kept[0] = run(kept[0], jax.random.key(0))
        return kept[0]

    return call


def repeated_additions(capacity, priority_exponent):
    """Return a call that adds to a replay that it keeps, ``STEPS`` times."""
    replay = SequenceReplay(NUM_ENVS, capacity, BATCH, priority_exponent)
    sequence = {"observation": jnp.zeros((8, 4)), "action": jnp.zeros(8, jnp.int8)}
    rows = jax.tree.map(lambda leaf: jnp.stack([leaf] * NUM_ENVS), sequence)
    add, kept = jax.jit(replay.add, donate_argnums=0), [replay.init(sequence)]

    def call():
        for _ in range(STEPS):
            kept[0] = add(kept[0], rows)
        return kept[0]

    return call


def measure(capacity, repeats):
    """Return microseconds of each."""
    weights = jax.random.uniform(jax.random.key(1), (capacity,))
    tree = jax.jit(set_weights)(init_tree(capacity), jnp.arange(capacity), weights)
    seconds = minima(
        {
            "sum tree": repeated(draw_leaves, set_weights, tree),
            "cumulative sum": repeated(draw_from_cumulative_sum, set_in_array, weights),
            "add, uniform": repeated_additions(capacity, None),
            "add, prioritized": repeated_additions(capacity, 0.9),
        },
        repeats,
    )
    return {name: 1e6 * value / STEPS for name, value in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--repeats", type=int, default=60, help="calls whose least is taken")
    arguments = parser.parse_args()
    rows = {capacity: measure(capacity, arguments.repeats) for capacity in CAPACITIES}
    if arguments.json:
        print(json.dumps(rows))
        return
    print("| sequences | sum tree | cumulative sum | cumulative / tree | add | add, prioritized |")
    print("|---|---|---|---|---|---|")
    for capacity, times in rows.items():
        tree, cumulative, *adding = times.values()
        print(
            f"| {capacity:,} | {tree:.1f} | {cumulative:.1f} | {cumulative / tree:.1f} | "
            + " | ".join(f"{value:.1f}" for value in adding)
            + " |"
        )


if __name__ == "__main__":
    main()
