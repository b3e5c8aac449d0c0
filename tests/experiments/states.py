"""A state to be saved, and what it takes to do so."""

import jax
import jax.numpy as jnp
import numpy as np

from memorax.experiments.run.checkpoints import Checkpoints


def make_state(value=0.0, features=3):
    return {
        "params": {"kernel": jnp.full((2, features), float(value)), "bias": jnp.zeros(features)},
        "keys": jax.random.split(jax.random.key(0), 2),
        "carry": (jnp.int32(3), ()),
    }


def save_all(folder, returns, keep=2):
    """Save a checkpoint for each return, at steps 1, 2, ...; a state tells its step."""
    checkpoints = Checkpoints(folder, "gru", keep)
    for step, episode_return in enumerate(returns, 1):
        checkpoints.save(step, make_state(step), episode_return)
    checkpoints.close()


def values(state):
    return jax.tree.map(np.asarray, state | {"keys": jax.random.key_data(state["keys"])})
