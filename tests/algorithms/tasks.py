"""Small tasks for the tests of algorithms."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from memorax.environments import Box, Discrete, Environment
from memorax.environments.memory.task import Task


class Counting(Environment):
    """Counts to 5, where an episode terminates or a time limit cuts it off.

    The reward is 1 a step. Whether an episode terminates or is cut off is drawn at its start and
    shown, so that values differ.
    """

    def __init__(self, actions=None):
        self.actions = actions or Discrete(2)

    def _observe(self, state):
        count, limited = state
        return jnp.stack([count / 5.0, limited.astype(jnp.float32)])

    def reset(self, key, params):
        state = jnp.float32(0), jax.random.bernoulli(key)
        return self._observe(state), state

    def step(self, key, state, action, params):
        count, limited = state
        count = count + 1
        final_observation = self._observe((count, limited))
        ended = count >= 5
        first, fresh = self.reset(key, params)
        state = jax.tree.map(lambda new, old: jnp.where(ended, new, old), fresh, (count, limited))
        observation = jnp.where(ended, first, final_observation)
        info = {"final_observation": final_observation}
        return observation, state, jnp.float32(1), ended & ~limited, ended & limited, info

    def observation_space(self, params):
        return Box(0.0, 1.0, (2,))

    def action_space(self, params):
        return self.actions


@dataclass(frozen=True)
class Recalling(Task):
    """Shows a number at first; the third action should be that number: reward 1 - |a - x| there.

    Who does not remember earns 0.5 at best, by acting 0.
    """

    def begin(self, key, params):
        number = jax.random.uniform(key, minval=-1, maxval=1)
        return jnp.stack([number, 1.0]), (number, jnp.int32(0))

    def advance(self, key, state, action, params):
        number, step = state
        last = step == 2
        reward = jnp.where(last, 1 - jnp.abs(action[0] - number), 0)
        return jnp.zeros(2), (number, step + 1), reward, last, jnp.bool_(False)

    def observation_space(self, params):
        return Box(-1.0, 1.0, (2,))

    def action_space(self, params):
        return Box(-1.0, 1.0, (1,))


@dataclass(frozen=True)
class Aiming(Task):
    """Episodes of one step, whose reward is less the further the action is from a shown place.

    Attributes:
        low: The least action, for each dimension.
        high: The greatest. The place is shown as if they were -1 and 1.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    def begin(self, key, params):
        place = jax.random.uniform(key, (len(self.low),), minval=-0.8, maxval=0.8)
        return place, place

    def advance(self, key, state, action, params):
        low, high = jnp.asarray(self.low), jnp.asarray(self.high)
        distance = (2 * action - low - high) / (high - low) - state
        return state, state, -jnp.sum(distance**2), jnp.bool_(True), jnp.bool_(False)

    def observation_space(self, params):
        return Box(-1.0, 1.0, (len(self.low),))

    def action_space(self, params):
        return Box(jnp.asarray(self.low), jnp.asarray(self.high), (len(self.low),))


@dataclass(frozen=True)
class Tossing(Task):
    """Episodes of one step, whose reward is 1 three times in four and else -1."""

    def begin(self, key, params):
        return jnp.ones(2), jnp.int32(0)

    def advance(self, key, state, action, params):
        reward = jnp.where(jax.random.bernoulli(key, 0.75), 1.0, -1.0)
        return jnp.ones(2), state, reward, jnp.bool_(True), jnp.bool_(False)

    def observation_space(self, params):
        return Box(0.0, 1.0, (2,))

    def action_space(self, params):
        return Discrete(2)
