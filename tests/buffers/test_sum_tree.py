import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from memorax.buffers.sum_tree import (
    LEAST_WEIGHT,
    draw_leaves,
    get_weights,
    init_tree,
    set_weights,
    total_weight,
    tree_size,
)

draw = jax.jit(draw_leaves)


def tree_of(weights):
    weights = jnp.asarray(weights, jnp.float32)
    return jax.jit(set_weights)(init_tree(len(weights)), jnp.arange(len(weights)), weights)


def hard_fractions(tree, count=20_000):
    """Return random fractions, the ends, and the bounds of every leaf with their neighbours."""
    bounds = np.cumsum(np.asarray(tree)[tree.shape[0] // 2 :], dtype=np.float32)
    bounds = np.clip(bounds / np.float32(total_weight(tree)), 0, 1)
    random = np.random.default_rng(0).random(count, np.float32)
    fractions = np.concatenate([random, bounds, np.float32([0, LEAST_WEIGHT, 1])])
    neighbours = [np.nextafter(fractions, np.float32(end)) for end in (0, 1)]
    return jnp.asarray(np.concatenate([fractions, *neighbours]))


@pytest.mark.parametrize("leaves", [1, 2, 3, 5, 8, 1000])
def test_every_node_is_the_sum_of_its_children_after_any_updates(leaves):
    rng, tree = np.random.default_rng(leaves), init_tree(leaves)
    assert tree.shape == (tree_size(leaves),)
    expected = np.zeros(leaves, np.float32)
    for _ in range(20):
        where = rng.integers(leaves, size=7)
        weights = np.float32(10.0) ** rng.integers(-6, 6, size=leaves) * (rng.random(leaves) < 0.7)
        # A leaf that is set twice is set to the same.
        tree = jax.jit(set_weights)(tree, where, weights[where].astype(np.float32))
        expected[where] = weights[where]
    nodes = np.asarray(tree)
    for node in range(1, len(nodes) // 2):
        assert nodes[node] == nodes[2 * node] + nodes[2 * node + 1]
    np.testing.assert_array_equal(get_weights(tree, jnp.arange(leaves)), expected)


def weights_of(kind):
    rng = np.random.default_rng(3)
    if kind == "orders of magnitude":
        weights = 10 ** rng.uniform(-6, 6, 1000)
        weights[rng.random(1000) < 0.5] = 0
    elif kind == "sums that do not add up":
        weights = rng.random(3001)
        weights[-1000:] = 0
    elif kind == "only the first":
        weights = np.zeros(4096)
        weights[0] = 0.1
    elif kind == "only the last":
        weights = np.zeros(5)
        weights[4] = 1e12
    else:
        weights = np.where(np.arange(100) % 2, LEAST_WEIGHT, 0)
    return weights.astype(np.float32)


@pytest.mark.parametrize(
    "kind",
    [
        "orders of magnitude",
        "sums that do not add up",
        "only the first",
        "only the last",
        "the least",
    ],
)
def test_a_leaf_of_weight_zero_is_never_drawn(kind):
    weights = weights_of(kind)
    tree = tree_of(weights)
    if kind == "sums that do not add up":
        assert np.cumsum(weights)[-1] != total_weight(tree)
    drawn = np.asarray(draw(tree, hard_fractions(tree)))
    assert drawn.min() >= 0
    assert drawn.max() < len(weights)
    assert (weights[drawn] > 0).all()


@pytest.mark.parametrize("fraction", [0.0, 0.4, 1.0 - 2**-24, 1.0])
def test_rounding_that_passes_the_last_weight_stays_on_it(fraction):
    """Here a descent that only compares with left children ends on the last leaf, of weight 0."""
    tree = tree_of(np.float32([0.1, 0.2, 0.3] + [0.0] * 13))
    leaf = int(draw(tree, jnp.float32([fraction]))[0])
    assert leaf == {0.0: 0, 0.4: 1}.get(fraction, 2)


def test_leaves_are_drawn_in_proportion_to_their_weights():
    weights = np.float32([1, 0, 2, 3, 0.5, 10, 4])
    fractions = jax.random.uniform(jax.random.key(0), (100_000,))
    counts = np.bincount(draw(tree_of(weights), fractions), minlength=len(weights))
    kept = weights > 0
    assert counts[~kept].sum() == 0

    def p_value(weights):
        expected = weights / weights.sum() * counts.sum()
        return scipy.stats.chisquare(counts[kept], expected[kept].astype(np.float64)).pvalue

    weights = weights.astype(np.float64)
    assert p_value(weights) > 1e-3
    assert p_value(weights + 0.1 * kept) < 1e-6, "the test must see a difference"


@pytest.mark.exhaustive
def test_in_a_hundred_million_draws_no_leaf_of_weight_zero_is_drawn():
    weights = np.float32([0, 1e-6, 0, 0.1, 0.2, 0, 0.3, 0, 0, 1e6, 0])
    tree, positive = tree_of(weights), jnp.asarray(weights > 0)

    @jax.jit
    def wrong(tree, key):
        def step(count, key):
            leaves = draw_leaves(tree, jax.random.uniform(key, (10**6,)))
            return count + (~positive[leaves]).sum(), None

        return jax.lax.scan(step, jnp.int32(0), jax.random.split(key, 100))[0]

    assert wrong(tree, jax.random.key(0)) == 0
