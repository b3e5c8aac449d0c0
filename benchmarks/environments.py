"""Steps per second of our memory tasks and of the popgym package's, side by side.

Both sides step as many copies on the same cores, with random actions drawn beforehand: ours in one
compiled loop, the package's in Gymnasium's vector environments, in one process or in one a core,
whichever is faster. Compiling is timed by what the processors spend on it, all threads together, so
that a machine that is shared tells the same.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import gymnasium
import jax
import jax.numpy as jnp
import popgym.envs  # noqa: F401  (registers its environments)
import tyro
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from timing import medians

from memorax import environments

# What the package calls differently.
PACKAGE_NAMES = {
    "NoisyStatelessCartPole": "NoisyPositionOnlyCartPole",
    "NoisyStatelessPendulum": "NoisyPositionOnlyPendulum",
    "StatelessCartPole": "PositionOnlyCartPole",
    "StatelessPendulum": "PositionOnlyPendulum",
    "VelocityOnlyCartPole": "VelocityOnlyCartpole",
}
TASKS = (
    "Autoencode",
    "Battleship",
    "Concentration",
    "CountRecall",
    "HigherLower",
    "LabyrinthEscape",
    "LabyrinthExplore",
    "MineSweeper",
    "MultiarmedBandit",
    "RepeatFirst",
    "RepeatPrevious",
    "NoisyStatelessCartPole",
    "NoisyStatelessPendulum",
    "StatelessCartPole",
    "StatelessPendulum",
    "VelocityOnlyCartPole",
)


@dataclass
class Options:
    """Time our memory tasks beside the popgym package's."""

    tasks: tuple[str, ...] = TASKS
    """Which tasks."""
    level: str = "Easy"
    """Easy, Medium or Hard."""
    num_envs: int = 256
    """Copies that step side by side."""
    our_steps: int = 1_000
    """Steps of each of our copies in a timed call."""
    their_steps: int = 100
    """Steps of each of the package's copies in a timed call."""
    repeats: int = 5
    """Timed calls, of which the median counts."""


def our_loop(name: str, num_envs: int, num_steps: int) -> tuple[Callable[[], jax.Array], float]:
    """Return a compiled loop over steps, and the seconds of compiling it."""
    env, params = environments.make(f"memory::{name}")
    envs = environments.Vectorize(env, num_envs)
    space = env.action_space(params)

    def step(carry, inputs):
        state, _ = carry
        key, action = inputs
        observation, state, reward, terminated, truncated, _ = envs.step(key, state, action, params)
        # All that a step tells is carried, or the compiler would leave out what nobody reads.
        return (state, (observation, reward, terminated, truncated)), None

    @jax.jit
    def loop(key, actions):
        reset_key, step_key = jax.random.split(key)
        observation, state = envs.reset(reset_key, params)
        never = jnp.zeros(num_envs, bool)
        told = observation, jnp.zeros(num_envs), never, never
        inputs = jax.random.split(step_key, num_steps), actions
        return jax.lax.scan(step, (state, told), inputs)[0]

    key, action_key = jax.random.split(jax.random.key(0))
    shape = (num_steps, num_envs)
    if isinstance(space, environments.Discrete):
        actions = jax.random.randint(action_key, shape, 0, space.n)
    else:
        shape = (*shape, *space.shape)
        actions = jax.random.uniform(action_key, shape, minval=space.low, maxval=space.high)
    started = time.process_time()
    compiled = loop.lower(key, actions).compile()
    return partial(compiled, key, actions), time.process_time() - started


def their_loop(name: str, num_envs: int, num_steps: int, kind: type) -> Callable[[], None]:
    """Return a loop over the package's copies with actions drawn beforehand."""
    envs = kind([partial(gymnasium.make, name, disable_env_checker=True)] * num_envs)
    envs.reset(seed=0)
    envs.action_space.seed(0)
    actions = [envs.action_space.sample() for _ in range(num_steps)]

    def loop():
        for action in actions:
            envs.step(action)

    return loop


def compare(name: str, options: Options) -> str:
    """Return the table's row of a task."""
    ours, compile_seconds = our_loop(name + options.level, options.num_envs, options.our_steps)
    theirs = f"popgym-{PACKAGE_NAMES.get(name, name)}{options.level}-v0"
    workers = os.cpu_count() or 1
    alternatives = {
        "ours": ours,
        "one process": their_loop(theirs, options.num_envs, options.their_steps, SyncVectorEnv),
        # A process for each copy: more of them than cores only get into each other's way.
        "a process a core": their_loop(theirs, workers, options.their_steps, AsyncVectorEnv),
    }
    seconds = medians(alternatives, options.repeats)
    our_speed = options.num_envs * options.our_steps / seconds["ours"]
    their_speed = max(
        options.num_envs * options.their_steps / seconds["one process"],
        workers * options.their_steps / seconds["a process a core"],
    )
    return (
        f"| {name}{options.level} | {our_speed:,.0f} | {their_speed:,.0f} "
        f"| {our_speed / their_speed:,.0f} | {compile_seconds:.1f} |"
    )


def main(options: Options) -> None:
    print(f"{options.num_envs} copies, {os.cpu_count()} cores, jax {jax.__version__}\n")
    print("| task | ours, steps/s | popgym, steps/s | ratio | compiling, s |")
    print("|---|---|---|---|---|")
    for name in options.tasks:
        print(compare(name, options), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options))
