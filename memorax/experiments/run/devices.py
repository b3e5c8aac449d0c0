"""Training on several devices: a mesh, and where each part of a state lives on it."""

import dataclasses
import math
from functools import partial
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from memorax.algorithms import Algorithm
from memorax.algorithms.sharding import ENVIRONMENTS, SEEDS
from memorax.environments import Environment
from memorax.environments.processes.environment import ProcessEnvironment
from memorax.environments.wrappers.base import Wrapper
from memorax.experiments.run.agents import make_agent
from memorax.experiments.run.config import MOST_STEPS, TrainConfig
from memorax.experiments.run.options import Devices
from memorax.validation import check_integer

ONE_DEVICE = Devices(devices=1)


def make_mesh(options: Devices, config: TrainConfig, agents: dict[str, Algorithm]) -> Mesh:
    """Return the devices of a run, as a mesh of seeds and environments.

    By default as many visible ones as can have an equal share, of several processes all of them,
    but a single one for environments that run in Python processes.

    Raises:
        ValueError: If seeds, environments or batches cannot be shared out evenly.
    """
    visible = jax.devices()
    if options.devices is not None:
        check_integer("devices", options.devices, 1, len(visible))
    check_integer("seed_devices", options.seed_devices, 1, len(visible))
    num_devices, groups = options.devices or len(visible), options.seed_devices
    if any(_runs_in_processes(agent.env) for agent in agents.values()):
        # If one fails, the other devices would wait for the one that steps them.
        if jax.process_count() > 1 or (options.devices or groups) > 1:
            raise ValueError(
                f"devices must be 1 for {config.environment}, whose environments run in Python "
                f"processes, got devices={num_devices}"
            )
        num_devices = 1
    if jax.process_count() > 1 and num_devices != len(visible):
        raise ValueError(
            f"devices must be {len(visible)}, those of all {jax.process_count()} processes, got "
            f"devices={num_devices}"
        )
    if config.num_seeds % groups:
        raise ValueError(
            "seed_devices must divide num_seeds, got "
            f"seed_devices={groups}, num_seeds={config.num_seeds}"
        )
    shared_out = {"num_envs": config.algorithm.num_envs} | {
        f"sequences of a batch of {model}": agent.batch_sequences for model, agent in agents.items()
    }
    most = math.gcd(*shared_out.values())
    allowed = [
        number
        for number in range(groups, len(visible) + 1, groups)
        if most % (number // groups) == 0
    ]
    if options.devices is None and jax.process_count() == 1:
        num_devices = max(number for number in allowed if number <= num_devices)
    if num_devices not in allowed:
        sizes = ", ".join(f"{value} {name}" for name, value in shared_out.items())
        raise ValueError(
            f"devices must be {' or '.join(map(str, allowed))}, so that seed_devices={groups} "
            f"divides it and each of the groups shares out evenly {sizes}; got "
            f"devices={num_devices}" + ("" if options.devices else ", every visible one")
        )
    return jax.make_mesh(
        (groups, num_devices // groups),
        (SEEDS, ENVIRONMENTS),
        axis_types=(AxisType.Auto, AxisType.Auto),
        devices=visible[:num_devices],
    )


def one_device() -> Mesh:
    """Return a mesh of the first device alone."""
    return jax.make_mesh(
        (1, 1),
        (SEEDS, ENVIRONMENTS),
        axis_types=(AxisType.Auto, AxisType.Auto),
        devices=jax.local_devices()[:1],
    )


def _runs_in_processes(env: Environment | Any) -> bool:
    """Return whether an environment is stepped by a callback, which only one device makes."""
    while isinstance(env, Wrapper):
        env = env.env
    return isinstance(env, ProcessEnvironment)


def replicated(mesh: Mesh) -> NamedSharding:
    """Return where arrays live that every device has whole."""
    return NamedSharding(mesh, PartitionSpec())


def abstract_state(mesh: Mesh, config: TrainConfig[Any], model: str, agent: Algorithm) -> PyTree:
    """Return the shapes of the state of all seeds, and where each of its arrays lives.

    Every array leads with the seeds. The axis that doubles with the number of environments is
    spread over the devices of a group; what has none, such as parameters, every device has whole.

    Args:
        mesh: The devices.
        config: The run's configuration.
        model: The model's name.
        agent: Its agent.
    """
    keys = jax.eval_shape(partial(seed_keys, config))
    state = jax.eval_shape(jax.vmap(agent.init), keys)
    doubled = state
    if mesh.shape[ENVIRONMENTS] > 1:
        algorithm = config.algorithm
        algorithm = dataclasses.replace(algorithm, num_envs=2 * algorithm.num_envs)
        # As many updates as before, within which its schedules have to end.
        total_steps = min(2 * config.total_steps, MOST_STEPS)
        more = make_agent(
            dataclasses.replace(config, algorithm=algorithm, total_steps=total_steps), model
        )
        doubled = jax.eval_shape(jax.vmap(more.init), keys)
    num_envs = config.algorithm.num_envs

    def place(leaf, other):
        axes: list[str | None] = [SEEDS, *[None] * (leaf.ndim - 1)]
        for axis in range(1, leaf.ndim):
            if (leaf.shape[axis], other.shape[axis]) == (num_envs, 2 * num_envs):
                axes[axis] = ENVIRONMENTS
        return jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, PartitionSpec(*axes))
        )

    return jax.tree.map(place, state, doubled)


def seed_keys(config: TrainConfig[Any]) -> Array:
    """Return the keys that the seeds of a run begin with."""
    return jax.random.split(jax.random.key(config.seed), config.num_seeds)
