from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from memorax.buffers import SequenceReplay, importance_weights, tree_bytes
from memorax.buffers.sequence_replay import _stratified_fractions


def sequence(value=0):
    """One sequence of two steps whose every number is the value."""
    return {
        "observation": np.full((2, 3), value, np.uint8),
        "reward": np.full((2,), value, np.float32),
        "carry": np.full((4,), value, np.float32),
    }


@cache
def compiled(replay):
    """Return how to add to a replay and how to draw many batches."""
    return jax.jit(replay.add), jax.jit(jax.vmap(replay.sample, in_axes=(None, 0)))


def filled(replay, times):
    state, add = replay.init(sequence()), compiled(replay)[0]
    for time in range(times):
        rows = [sequence(10 * time + row) for row in range(replay.num_envs)]
        state = add(state, jax.tree.map(lambda *leaves: np.stack(leaves), *rows))
    return state


def drawn(replay, state, seed, times=1):
    """Draw as many batches and join them."""
    keys = jax.random.split(jax.random.key(seed), times)
    samples = compiled(replay)[1](state, keys)
    return jax.tree.map(lambda leaf: np.asarray(leaf).reshape(-1, *leaf.shape[2:]), samples)


def test_sequences_come_back_whole_and_in_their_own_dtypes():
    replay = SequenceReplay(num_envs=2, capacity=6, batch_size=5)
    sample = drawn(replay, filled(replay, 2), seed=0).sequences
    assert {name: leaf.dtype for name, leaf in sample.items()} == {
        "observation": jnp.uint8,
        "reward": jnp.float32,
        "carry": jnp.float32,
    }
    for row in range(5):
        values = {float(v) for leaf in sample.values() for v in np.unique(leaf[row])}
        assert len(values) == 1
        assert values <= {0.0, 1.0, 10.0, 11.0}


def test_the_oldest_sequences_make_room():
    replay = SequenceReplay(num_envs=2, capacity=6, batch_size=6)
    state = filled(replay, 5)
    assert replay.num_sequences(state) == 6
    seen = set(np.unique(drawn(replay, state, 0, 20).sequences["reward"]).tolist())
    assert seen == {20.0, 21.0, 30.0, 31.0, 40.0, 41.0}


def test_sequences_are_drawn_in_proportion_to_their_priority_and_say_how_likely_they_were():
    replay = SequenceReplay(num_envs=1, capacity=4, batch_size=4, priority_exponent=0.5)
    state = filled(replay, 4)
    values = drawn(replay, state, 0, 20)
    rewards = values.sequences["reward"][:, 0].tolist()
    where = dict(zip(rewards, values.indices.tolist(), strict=True))
    indices = jnp.array([where[value] for value in (0.0, 10.0, 20.0, 30.0)])
    priorities = jnp.array([1.0, 4.0, 9.0, 0.0])
    state = jax.jit(replay.update_priorities)(state, indices, priorities)
    sample = drawn(replay, state, 1, 2000)
    expected = {0.0: 1 / 6, 10.0: 2 / 6, 20.0: 3 / 6}
    rewards = sample.sequences["reward"][:, 0]
    for value, probability in expected.items():
        assert (rewards == value).mean() == pytest.approx(probability, abs=0.01)
        told = sample.probabilities[rewards == value]
        np.testing.assert_allclose(told, probability, rtol=1e-5)
    assert 30.0 not in rewards


@pytest.mark.parametrize("priority", [0.3, 1.0, 1.99, 1e4])
def test_new_sequences_get_exactly_the_largest_priority_so_far(priority):
    replay = SequenceReplay(num_envs=2, capacity=6, batch_size=4, priority_exponent=1.0)
    update = jax.jit(replay.update_priorities)
    state = filled(replay, 1)
    # Leaves of one environment stand side by side.
    leaves = state.priorities.tree[8:]
    np.testing.assert_array_equal(leaves[:6], [1, 0, 0, 1, 0, 0])
    state = update(state, jnp.array([0, 3]), jnp.array([priority, priority / 2]))
    state = update(state, jnp.array([0, 3]), jnp.array([priority / 4, priority / 8]))
    state = jax.jit(replay.add)(state, jax.tree.map(lambda x: np.stack([x] * 2), sequence(5)))
    leaves = np.asarray(state.priorities.tree[8:])
    assert leaves[1] == leaves[4] == np.float32(priority)
    sample = drawn(replay, state, 0, 100)
    new = sample.sequences["reward"][:, 0] == 5
    np.testing.assert_allclose(sample.probabilities[new], 1 / (2 + 3 / 8), rtol=1e-6)


def test_draws_follow_priorities_and_each_of_a_batch_comes_from_its_own_part():
    replay = SequenceReplay(num_envs=2, capacity=14, batch_size=4, priority_exponent=0.5)
    state = filled(replay, 7)
    weights = np.array([1, 2, 3, 4, 5, 6, 7, 0, 1, 1, 1, 2, 0.5, 3])
    state = replay.update_priorities(state, jnp.arange(14), jnp.asarray(weights**2, jnp.float32))
    indices = drawn(replay, state, 3, 20_000).indices
    counts = np.bincount(indices, minlength=14)
    assert counts[7] == 0
    kept = weights > 0
    expected = (weights / weights.sum() * counts.sum())[kept]
    assert scipy.stats.chisquare(counts[kept], expected).pvalue > 1e-3
    # Leaves in their order: the first quarter of the total weight ends within the fifth.
    assert set(indices.reshape(-1, 4)[:, 0].tolist()) == {0, 1, 2, 3}


def test_a_number_drawn_that_is_rounded_to_one_draws_what_was_written_with_a_finite_weight():
    """By flashbax's descent this key draws the last sequence, never written, and all weights NaN.

    R2D2 with its defaults meets such a key about every 400,000 gradient steps.
    """
    key = jax.random.key(237_087)
    assert jax.jit(partial(_stratified_fractions, batch_size=64))(key)[-1] == 1
    replay = SequenceReplay(num_envs=16, capacity=4096, batch_size=64, priority_exponent=0.9)
    state = filled(replay, 3)
    sample = jax.jit(replay.sample)(state, key)
    assert int(sample.indices[-1]) == 15 * 256 + 2
    assert (sample.probabilities > 0).all()
    weights = importance_weights(sample.probabilities, 0.6)
    assert np.isfinite(weights).all()
    assert weights.max() <= 1


@pytest.mark.parametrize("priority_exponent", [None, 0.6])
def test_only_what_was_written_is_drawn_however_full_the_replay_is(priority_exponent):
    replay = SequenceReplay(2, capacity=10, batch_size=10, priority_exponent=priority_exponent)
    for times in range(1, 12):
        state = filled(replay, times)
        seen = set(np.unique(drawn(replay, state, times, 20).sequences["reward"]).tolist())
        latest = range(max(0, times - 5), times)
        assert seen == {10.0 * time + row for time in latest for row in range(2)}


def test_what_was_never_written_gets_no_priority_and_what_is_overwritten_gets_a_new_one():
    replay = SequenceReplay(num_envs=1, capacity=3, batch_size=3, priority_exponent=1.0)
    state = replay.update_priorities(filled(replay, 1), jnp.arange(3), jnp.ones(3))
    assert set(drawn(replay, state, 0, 50).indices.tolist()) == {0}
    state = replay.update_priorities(
        filled(replay, 3), jnp.arange(3), jnp.array([0.0, -1.0, jnp.nan])
    )
    state = jax.jit(replay.add)(state, jax.tree.map(lambda leaf: leaf[None], sequence(9)))
    sample = drawn(replay, state, 0, 50)
    assert set(sample.indices.tolist()) == {0}
    assert set(sample.sequences["reward"][:, 0].tolist()) == {9.0}


def test_importance_weights_are_those_of_the_paper_finite_and_at_most_one():
    probabilities = jnp.array([0.5, 0.25, 0.01, 0.1])
    expected = (100 * np.asarray(probabilities, np.float64)) ** -0.6
    np.testing.assert_allclose(
        importance_weights(probabilities, 0.6), expected / expected.max(), rtol=1e-6
    )
    replay = SequenceReplay(num_envs=1, capacity=20, batch_size=20, priority_exponent=1.0)
    priorities = jnp.asarray(np.append(10.0 ** np.linspace(-30, 30, 19), np.inf), jnp.float32)
    state = replay.update_priorities(filled(replay, 20), jnp.arange(20), priorities)
    batches = drawn(replay, state, 0, 20).probabilities.reshape(20, 20)
    for exponent in (0.0, 0.6, 1.0):
        weights = jax.vmap(partial(importance_weights, exponent=exponent))(batches)
        assert np.isfinite(weights).all()
        np.testing.assert_array_equal(weights.max(axis=1), 1)


def test_a_replay_of_every_seed_is_the_same_as_one_alone_under_vmap():
    replay = SequenceReplay(num_envs=2, capacity=6, batch_size=4, priority_exponent=0.7)

    def run(key):
        def step(state, time):
            rows = jax.tree.map(
                lambda leaf: jnp.full((2, *leaf.shape), time, leaf.dtype), sequence()
            )
            state = replay.add(state, rows)
            sample = replay.sample(state, jax.random.fold_in(key, time))
            # Those drawn twice get the same.
            priorities = 1.0 + sample.indices * jax.random.uniform(key)
            return replay.update_priorities(state, sample.indices, priorities), sample

        return jax.lax.scan(step, replay.init(sequence()), jnp.arange(5))

    keys = jax.random.split(jax.random.key(0), 2)
    together, run_alone = jax.jit(jax.vmap(run))(keys), jax.jit(run)
    for seed in range(2):
        alone = run_alone(keys[seed])
        jax.tree.map(
            lambda leaf, leaves, seed=seed: np.testing.assert_array_equal(leaf, leaves[seed]),
            alone,
            together,
        )


def test_environments_spread_over_devices_draw_the_same():
    replay = SequenceReplay(num_envs=4, capacity=12, batch_size=6, priority_exponent=0.7)
    state = filled(replay, 2)
    state = replay.update_priorities(state, jnp.array([0, 4, 9]), jnp.array([0.5, 4.0, 2.0]))
    mesh = Mesh(np.array(jax.devices()[:2]), ("environments",))
    by_env = NamedSharding(mesh, PartitionSpec("environments"))
    whole = jax.device_put(state, NamedSharding(mesh, PartitionSpec()))
    spread = jax.tree.map(lambda leaf: jax.device_put(leaf, by_env), state.sequences)
    spread_state = whole.replace(sequences=spread)
    rows = jax.tree.map(lambda leaf: np.stack([leaf] * 4), sequence(7))

    @jax.jit
    def add_and_sample(state, key):
        state = replay.add(state, rows)
        return state, replay.sample(state, key)

    one, two = (add_and_sample(each, jax.random.key(1)) for each in (state, spread_state))
    assert two[0].sequences["reward"].sharding.is_equivalent_to(by_env, 3)
    jax.tree.map(np.testing.assert_array_equal, one, two)


@pytest.mark.parametrize("priority_exponent", [None, 0.6])
def test_adding_to_a_donated_replay_copies_none_of_it(priority_exponent):
    scratch = []
    for capacity in (1_000, 100_000):
        replay = SequenceReplay(10, capacity, 10, priority_exponent)
        state = jax.eval_shape(replay.init, sequence())
        rows = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((10, *leaf.shape), leaf.dtype), sequence()
        )
        memory = (
            jax.jit(replay.add, donate_argnums=0).lower(state, rows).compile().memory_analysis()
        )
        assert memory.alias_size_in_bytes >= replay.num_bytes(sequence())
        scratch.append(memory.temp_size_in_bytes)
    assert scratch[1] <= scratch[0] + 1_000


def test_sequences_unlike_those_of_the_replay_are_refused():
    replay = SequenceReplay(num_envs=2, capacity=6, batch_size=4)
    state = replay.init(sequence())
    rows = jax.tree.map(lambda leaf: np.stack([leaf] * 2), sequence())
    with pytest.raises(ValueError, match=r"arrays of float32 \(2, 2\), got float16 \(2, 2\)"):
        replay.add(state, rows | {"reward": rows["reward"].astype(np.float16)})
    with pytest.raises(ValueError, match=r"arrays of float32 \(2, 4\), got float32 \(2, 3\)"):
        replay.add(state, rows | {"carry": rows["carry"][:, :3]})
    with pytest.raises(ValueError, match="needs priority_exponent to be a number, got None"):
        replay.update_priorities(state, jnp.arange(2), jnp.ones(2))


def test_a_replay_says_its_bytes_without_allocating_and_what_does_not_fit_is_refused():
    replay = SequenceReplay(num_envs=2, capacity=2 * 10**9, batch_size=4)
    assert tree_bytes(sequence()) == 2 * 3 + 2 * 4 + 4 * 4
    assert replay.num_bytes(sequence()) == 60 * 10**9
    small = SequenceReplay(num_envs=2, capacity=6, batch_size=4, priority_exponent=0.5)
    state = small.init(sequence())
    allocated = tree_bytes((state.sequences, state.priorities.tree))
    assert small.num_bytes(sequence()) == allocated == 6 * 30 + 4 * 16
    pictures = {"observation": jax.ShapeDtypeStruct((2, 84, 84), jnp.uint8)}
    with pytest.raises(ValueError, match=r"buffer_size: the replay would take .* GiB"):
        replay.check_replay_fits("buffer_size", pictures)
    SequenceReplay(num_envs=2, capacity=4, batch_size=4).check_replay_fits(
        "buffer_size", sequence()
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_envs": 0}, "num_envs must be an integer of at least 1, got 0"),
        ({"capacity": 7}, "capacity must be a multiple of num_envs, got capacity=7, num_envs=2"),
        ({"batch_size": 9}, "must hold at least a batch, got capacity=6, batch_size=9"),
        ({"priority_exponent": 1.5}, "priority_exponent must be a number from 0 to 1, got 1.5"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        SequenceReplay(**{"num_envs": 2, "capacity": 6, "batch_size": 4} | arguments)
