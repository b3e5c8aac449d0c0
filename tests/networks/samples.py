"""Small inputs and parameters for tests of networks; an episode starts in one place."""

import jax
import jax.numpy as jnp
import numpy as np

BATCH, TIME, ACTIONS = 3, 6, 5
START = 1, 2
"""The row and step where an episode starts."""

OBSERVATION = jax.random.normal(jax.random.key(0), (BATCH, TIME, 4))
DONE = jnp.zeros((BATCH, TIME), bool).at[START].set(True)
# Nowhere action 0, which a missing action could be taken for.
DISCRETE_ACTION = jax.random.randint(jax.random.key(1), (BATCH, TIME), 1, ACTIONS)
CONTINUOUS_ACTION = jax.random.normal(jax.random.key(1), (BATCH, TIME, 2))
REWARD = jax.random.normal(jax.random.key(2), (BATCH, TIME))


def draw(shapes, seed=0):
    """Draw parameters or a carry: those that begin at zero, nobody would see confused.

    Drawing them in numpy is also faster than compiling their initializers.
    """
    numbers = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jnp.asarray(0.4 * numbers.standard_normal(leaf.shape), leaf.dtype), shapes
    )


def draw_params(model, *inputs):
    return draw(jax.eval_shape(model.init, jax.random.key(0), *inputs))
