"""Playing our tasks for the tests."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from memorax import environments

STEPS = 1_200
"""Most tests play as many, so that they share programs."""


def play(name, num_steps, choose=None, seed=0, **params):
    """Return what ``play_with_states`` does, but the states."""
    first, _, *told = play_with_states(name, num_steps, choose, seed, **params)
    return first, *told


def play_with_states(name, num_steps, choose=None, seed=0, **params):
    """Return what is seen first, the state before each step, and what was told at each.

    That is the observation shown, the true last one, action, reward, terminated and truncated.

    ``choose(key, observation, memory) -> memory, action`` begins with the memory ``None`` and is
    random by default; a memory is a number, and 0 at every episode's start.
    """
    run = _player(name, num_steps, choose, tuple(params.items()))
    return jax.tree.map(np.asarray, run(jax.random.key(seed)))


@functools.cache
def _player(name, num_steps, choose, params):
    """Return a compiled function of a key; several tests play the same."""
    env, _ = environments.make(f"memory::{name}", **dict(params))
    space = env.action_space(None)

    def at_random(key, observation, memory):
        if isinstance(space, environments.Discrete):
            return memory, jax.random.randint(key, (), 0, space.n)
        return memory, jax.random.uniform(key, space.shape, minval=space.low, maxval=space.high)

    choose = choose or at_random

    @jax.jit
    def run(key):
        key, first_key = jax.random.split(key)
        first, state = env.reset(first_key, None)

        def step(loop, key):
            state, observation, memory = loop
            choose_key, step_key = jax.random.split(key)
            memory, action = choose(choose_key, observation, memory)
            observation, next_state, reward, terminated, truncated, info = env.step(
                step_key, state, action, None
            )
            ended = terminated | truncated
            memory = jnp.where(ended, 0.0, memory)
            final = info["final_observation"]
            told = state, observation, final, action, reward, terminated, truncated
            return (next_state, observation, memory), told

        keys = jax.random.split(key, num_steps)
        return first, *jax.lax.scan(step, (state, first, jnp.float32(0)), keys)[1]

    return run


def returns(rewards, ended):
    """Return the return of every episode that ended."""
    ends = np.flatnonzero(ended)
    totals = np.cumsum(rewards, dtype=np.float64)[ends]
    return np.diff(totals, prepend=0)
