"""Playing our tasks for the tests."""

import jax
import jax.numpy as jnp
import numpy as np

from memorax import environments


def play(name, num_steps, choose=None, seed=0, **params):
    """Return what is seen first, then at each step observation, action, reward and end.

    ``choose(key, observation, memory) -> memory, action`` begins with the memory ``None`` and is
    random by default; a memory is a number, and 0 at every episode's start.
    """
    env, _ = environments.make(f"memory::{name}", **params)
    num_actions = env.action_space(None).n

    def at_random(key, observation, memory):
        return memory, jax.random.randint(key, (), 0, num_actions)

    choose = choose or at_random

    @jax.jit
    def run(key):
        key, first_key = jax.random.split(key)
        first, state = env.reset(first_key, None)

        def step(loop, key):
            state, observation, memory = loop
            choose_key, step_key = jax.random.split(key)
            memory, action = choose(choose_key, observation, memory)
            observation, state, reward, terminated, truncated, info = env.step(
                step_key, state, action, None
            )
            ended = terminated | truncated
            memory = jnp.where(ended, 0.0, memory)
            told = observation, info["final_observation"], action, reward, terminated, truncated
            return (state, observation, memory), told

        keys = jax.random.split(key, num_steps)
        return first, *jax.lax.scan(step, (state, first, jnp.float32(0)), keys)[1]

    return jax.tree.map(np.asarray, run(jax.random.key(seed)))


def returns(rewards, ended):
    """Return the return of every episode that ended."""
    ends = np.flatnonzero(ended)
    totals = np.cumsum(rewards)[ends]
    return np.diff(totals, prepend=0)
