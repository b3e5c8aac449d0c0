import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax.buffers import SequenceReplay, tree_bytes


def sequence(value=0):
    """One sequence of two steps whose every number is the value."""
    return {
        "observation": np.full((2, 3), value, np.uint8),
        "reward": np.full((2,), value, np.float32),
        "carry": np.full((4,), value, np.float32),
    }


def filled(replay, times):
    state, add = jax.jit(replay.init)(sequence()), jax.jit(replay.add)
    for time in range(times):
        rows = [sequence(10 * time + row) for row in range(replay.num_envs)]
        state = add(state, jax.tree.map(lambda *leaves: np.stack(leaves), *rows))
    return state


def drawn(replay, state, seed, times=1):
    """Draw as many batches and join them."""
    keys = jax.random.split(jax.random.key(seed), times)
    samples = jax.jit(jax.vmap(replay.sample, in_axes=(None, 0)))(state, keys)
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


def test_a_replay_says_its_bytes_without_allocating_and_what_does_not_fit_is_refused():
    replay = SequenceReplay(num_envs=2, capacity=2 * 10**9, batch_size=4)
    assert tree_bytes(sequence()) == 2 * 3 + 2 * 4 + 4 * 4
    assert replay.num_bytes(sequence()) == 60 * 10**9
    pictures = {"observation": jax.ShapeDtypeStruct((2, 84, 84), jnp.uint8)}
    with pytest.raises(ValueError, match=r"buffer_size: the replay would take .* GiB"):
        replay.check_memory("buffer_size", pictures)
    SequenceReplay(num_envs=2, capacity=4, batch_size=4).check_memory("buffer_size", sequence())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_envs": 0}, "num_envs must be a whole number of at least 1, got 0"),
        ({"capacity": 7}, "capacity must be a multiple of num_envs, got capacity=7, num_envs=2"),
        ({"batch_size": 9}, "must hold at least a batch, got capacity=6, batch_size=9"),
        ({"priority_exponent": 1.5}, "priority_exponent must be a number from 0 to 1, got 1.5"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        SequenceReplay(**{"num_envs": 2, "capacity": 6, "batch_size": 4} | arguments)
