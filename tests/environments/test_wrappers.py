import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax.environments import (
    Box,
    ClipAction,
    Discrete,
    Environment,
    FlattenObservation,
    NoisyObservation,
    RecordEpisodeStatistics,
    ShowFinalObservation,
    Vectorize,
)
from memorax.environments.memory import StatelessPendulum


class Counter(Environment):
    """Counts to 3, where a time limit strikes, or to 2, where it terminates if the action is 1."""

    def reset(self, key, params):
        return jnp.float32(0), jnp.int32(0)

    def step(self, key, state, action, params):
        count = state + 1
        terminated = (count == 2) & (action == 1)
        truncated = count == 3
        final = count.astype(jnp.float32)
        count = jnp.where(terminated | truncated, 0, count)
        info = {"final_observation": final}
        return count.astype(jnp.float32), count, jnp.float32(1), terminated, truncated, info

    def observation_space(self, params):
        return Box(0.0, 3.0, ())

    def action_space(self, params):
        return Discrete(2)


def play(env, actions):
    env = Vectorize(env, 1)
    observation, state = env.reset(jax.random.key(0), None)
    shown, steps = [float(observation[0])], []
    for action in actions:
        observation, state, *rest = env.step(jax.random.key(1), state, jnp.array([action]), None)
        shown.append(float(observation[0]))
        steps.append(jax.tree.map(lambda leaf: np.asarray(leaf)[0].item(), tuple(rest)))
    return shown, steps


def test_the_last_observation_before_a_time_limit_is_shown_as_a_step_of_its_own():
    env = ShowFinalObservation(RecordEpisodeStatistics(Counter()))
    shown, steps = play(env, [0] * 8)
    assert shown == [0, 1, 2, 3, 0, 1, 2, 3, 0]
    rewards, terminated, truncated, info = zip(*steps, strict=True)
    assert rewards == (1, 1, 1, 0) * 2
    assert not any(terminated)
    assert truncated == (False, False, False, True) * 2
    assert [step["episode_ended"] for step in info] == [False, False, True, False] * 2
    lengths = [step["episode_length"] for step in info if step["episode_ended"]]
    assert lengths == [3, 3], "the step added is not the task's"
    assert [step["final_observation"] for step in info] == [1, 2, 3, 3] * 2


def test_episodes_that_terminate_stay_as_they_are():
    plain, plain_steps = play(RecordEpisodeStatistics(Counter()), [0, 1, 0, 1, 0])
    shown, steps = play(ShowFinalObservation(RecordEpisodeStatistics(Counter())), [0, 1, 0, 1, 0])
    assert shown == plain == [0, 1, 0, 1, 0, 1]
    for ours, theirs in zip(steps, plain_steps, strict=True):
        assert ours[:3] == theirs[:3]
        assert ours[3]["final_observation"] == theirs[3]["final_observation"]
        assert ours[3]["episode_ended"] == ours[1]


@pytest.mark.parametrize("action", [0.5, np.array([True]), np.array([2**40]), np.zeros(2)], ids=str)
def test_clipping_makes_no_action_of_what_is_none(action, as_a_user):
    env = ClipAction(StatelessPendulum())
    _, state = env.reset(jax.random.key(0), None)
    with pytest.raises(ValueError, match="StatelessPendulum: the action must lie in Box"):
        env.step(jax.random.key(1), state, action, None)


@pytest.mark.parametrize("action", [np.array([2**32 + 1, 0]), np.zeros(2), np.zeros(3, np.int32)])
def test_copies_take_no_action_for_another(action, as_a_user):
    env = Vectorize(Counter(), 2)
    _, state = env.reset(jax.random.key(0), None)
    with pytest.raises(ValueError, match=r"Counter: the action must lie in Discrete\(n=2\)"):
        env.step(jax.random.key(1), state, action, None)


@pytest.mark.parametrize("wrap", [FlattenObservation, lambda env: NoisyObservation(env, 0.1)])
@pytest.mark.parametrize("env", [None, (Counter(), None)], ids=["None", "tuple"])
def test_only_an_environment_can_be_wrapped(wrap, env, as_a_user):
    with pytest.raises(ValueError, match=r"Observation.env must be a .*make returns \(env"):
        wrap(env)
