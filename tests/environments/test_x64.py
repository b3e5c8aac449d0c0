"""Tasks where JAX computes in 64 bits, as other parts of a user's program may need it."""

import jax
import jax.numpy as jnp
import pytest

from memorax import environments
from memorax.environments import Discrete, RecordEpisodeStatistics, Vectorize

# A level differs from the next in its sizes only.
MEMORY = [name for name in environments.names("memory") if not name.endswith(("Medium", "Hard"))]
# One for each package; and those of gymnax, navix and craftax mix both widths if they are let.
TASKS = {
    "brax": ["inverted_pendulum"],
    "craftax": ["Craftax-Classic-Symbolic-v1"],
    "gymnax": ["Pendulum-v1", "Freeway-MinAtar", "MetaMaze-misc", "DiscountingChain-bsuite"],
    "jumanji": ["Maze-v0", "Game2048-v1", "PacMan-v1"],
    "memory": MEMORY,
    "navix": ["Navix-Empty-5x5-v0"],
    "xminigrid": ["MiniGrid-MemoryS8"],
}


@pytest.mark.parametrize(
    "task",
    [
        pytest.param(
            f"{suite}::{name}", marks=[] if suite == "memory" else pytest.mark.extra(suite)
        )
        for suite, names in TASKS.items()
        for name in names
    ],
)
def test_what_a_task_shows_has_the_dtypes_of_32_bits(task):
    def shown():
        env, params = environments.make(task)
        envs = Vectorize(RecordEpisodeStatistics(env), 2)
        space = env.action_space(params)
        shape, dtype = (
            ((), jnp.int32) if isinstance(space, Discrete) else (space.shape, space.dtype)
        )

        def begin_and_step(key):
            first, state = envs.reset(key, params)
            action = jnp.zeros((2, *shape), dtype)
            observation, _, reward, *_ = envs.step(key, state, action, params)
            return first, observation, reward

        shapes = jax.eval_shape(begin_and_step, jax.random.key(0))
        return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), shapes)

    expected = shown()
    with jax.enable_x64(True):
        assert shown() == expected
    assert expected[-1] == ((2,), jnp.float32)
