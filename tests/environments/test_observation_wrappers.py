from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax.environments import (
    Box,
    DelayObservation,
    Discrete,
    FlattenObservation,
    FlickerObservation,
    MaskObservation,
    NoisyObservation,
    ShowPreviousInputs,
    StackObservations,
)
from memorax.environments.memory import Autoencode, RepeatFirst
from memorax.environments.memory.task import Task


@dataclass(frozen=True)
class Walking(Task):
    """Shows (step, 10 + step); ends after 4 steps; the reward is the step's number."""

    def begin(self, key, params):
        return jnp.array([0.0, 10.0]), jnp.int32(0)

    def advance(self, key, state, action, params):
        state = state + 1
        seen = jnp.array([0.0, 10.0]) + state
        return seen, state, state.astype(jnp.float32), state == 4, jnp.bool_(False)

    def observation_space(self, params):
        return Box(np.array([0.0, 10.0]), np.array([4.0, 14.0]), (2,))

    def action_space(self, params):
        return Discrete(3)


def play(env, num_steps=9, action=1):
    """Return the observations shown, the last ones told, and the rewards."""

    @jax.jit
    def run(key):
        first, state = env.reset(key, None)

        def step(state, key):
            observation, state, reward, *_, info = env.step(key, state, jnp.int32(action), None)
            return state, (observation, info["final_observation"], reward)

        _, rest = jax.lax.scan(step, state, jax.random.split(key, num_steps))
        return first, *rest

    first, shown, final, reward = jax.tree.map(np.asarray, run(jax.random.key(0)))
    space = env.observation_space(None)
    assert first.shape == space.shape
    assert first.dtype == space.dtype
    for seen in (first, *shown, *final):
        assert (seen >= space.low).all()
        assert (seen <= space.high).all()
    return np.concatenate([first[None], shown]), final, reward


def reset(env):
    return env.reset(jax.random.key(0), None)


def test_a_mask_hides_elements():
    shown, final, _ = play(MaskObservation(Walking(), (0,)))
    np.testing.assert_array_equal(shown[:, 0], [10, 11, 12, 13, 10, 11, 12, 13, 10, 11])
    np.testing.assert_array_equal(final[:, 0], [11, 12, 13, 14, 11, 12, 13, 14, 11])


def test_a_flicker_shows_all_or_nothing_as_often_as_asked_for():
    shown, final, _ = play(FlickerObservation(Walking(), 0.3), num_steps=2_000)
    nothing = (shown == 0).all(-1)
    whole = shown[:, 1] - shown[:, 0] == 10
    assert (nothing | whole).all()
    assert 0.26 < nothing.mean() < 0.34
    inside = np.arange(2_000) % 4 != 3
    np.testing.assert_array_equal(final[inside], shown[1:][inside])
    assert (play(FlickerObservation(Walking(), 1.0))[0] == 0).all()


def test_noise_is_normal_and_drawn_anew():
    shown, final, _ = play(NoisyObservation(Walking(), 0.5), num_steps=2_000)
    noise = shown[:-1] - play(Walking(), num_steps=1_999)[0]
    assert abs(noise.mean()) < 0.05
    assert 0.47 < noise.std() < 0.53
    assert abs(np.corrcoef(noise[1:, 0], noise[:-1, 0])[0, 1]) < 0.1
    assert abs(np.corrcoef(noise[:, 0], noise[:, 1])[0, 1]) < 0.1
    inside = np.arange(2_000) % 4 != 3
    np.testing.assert_allclose(final[inside], shown[1:][inside], rtol=1e-5)


def test_a_delay_shows_nothing_older_than_the_episode():
    shown, final, _ = play(DelayObservation(Walking(), 2))
    np.testing.assert_array_equal(shown[:, 0], [0, 0, 0, 1, 0, 0, 0, 1, 0, 0])
    np.testing.assert_array_equal(final[:, 0], [0, 0, 1, 2, 0, 0, 1, 2, 0])


def test_a_stack_holds_the_latest_of_the_episode():
    shown, final, _ = play(StackObservations(Walking(), 3))
    np.testing.assert_array_equal(
        shown[:5, :, 0], [[0] * 3, [0, 0, 1], [0, 1, 2], [1, 2, 3], [0] * 3]
    )
    np.testing.assert_array_equal(final[3, :, 0], [2, 3, 4])


def test_previous_inputs_are_zero_at_an_episodes_start():
    shown, final, _ = play(ShowPreviousInputs(Walking()))
    nothing, action = [0, 0, 0, 0], [0, 1, 0]
    np.testing.assert_array_equal(shown[0, 2:], nothing)
    np.testing.assert_array_equal(shown[3, 2:], [*action, 3])
    np.testing.assert_array_equal(shown[4, 2:], nothing)
    np.testing.assert_array_equal(final[3, 2:], [*action, 4])


VECTORS = pytest.mark.parametrize(
    "wrap", [ShowPreviousInputs, lambda env: NoisyObservation(env, 0.0)], ids=["inputs", "noise"]
)


@VECTORS
@pytest.mark.parametrize("flat", [False, True])
def test_whole_numbers_become_floating(wrap, flat):
    env = FlattenObservation(Autoencode()) if flat else Autoencode()
    shown, final, _ = play(wrap(env))
    plain, plain_final, _ = play(env)
    assert shown.dtype == final.dtype == jnp.float32
    np.testing.assert_array_equal(shown[:, :2], plain)
    np.testing.assert_array_equal(final[:, :2], plain_final)


@VECTORS
def test_choices_are_wrapped_once_they_are_vectors(wrap):
    env = wrap(FlattenObservation(RepeatFirst()))
    observation, state = reset(env)
    shown, *_ = env.step(jax.random.key(1), state, jnp.int32(0), None)
    assert shown.shape == observation.shape == env.observation_space(None).shape


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MaskObservation(Walking(), ()), "hidden must be a tuple of different indices"),
        (lambda: MaskObservation(Walking(), (0, 0)), "hidden must be a tuple of different indices"),
        (lambda: MaskObservation(Walking(), 3), "hidden must be a tuple of .*, got 3"),
        (lambda: MaskObservation(Walking(), (True,)), "hidden must be an integer .*got True"),
        (lambda: MaskObservation(Walking(), (-1,)), "hidden must be an integer .*got -1"),
        (lambda: MaskObservation(Walking(), (2,)).observation_space(None), "indices of a vector"),
        (lambda: MaskObservation(Walking(), (0, 1)).observation_space(None), "leave some of it"),
        (lambda: FlickerObservation(Walking(), 1.5), "probability must be a number from 0 to 1"),
        (lambda: NoisyObservation(Walking(), -1.0), "scale must be a number from 0 to 3.4"),
        (lambda: DelayObservation(Walking(), 0), "num_steps must be an integer of at least 1"),
        (lambda: StackObservations(Walking(), 0), "num_observations must be an integer"),
        (lambda: reset(ShowPreviousInputs(RepeatFirst())), "are vectors, .*FlattenObservation"),
        (lambda: reset(ShowPreviousInputs(StackObservations(Walking()))), "are vectors"),
        (
            lambda: ShowPreviousInputs(StackObservations(Walking())).observation_space(None),
            "are vectors",
        ),
        (lambda: reset(NoisyObservation(RepeatFirst(), 0.1)), "are arrays, .*FlattenObservation"),
    ],
)
def test_what_cannot_be_wrapped_is_refused(make, words, as_a_user):
    with pytest.raises(ValueError, match=words):
        make()
