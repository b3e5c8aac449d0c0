"""The base of SAC and TD3: an actor and a critic of continuous actions, learned from replay."""

from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from memorax.algorithms.acting import apply_step, read_sequences
from memorax.algorithms.checks import check_policy
from memorax.algorithms.replay import ReplayAlgorithm, ReplayState
from memorax.algorithms.transitions import Sequences
from memorax.configurations.replay import ReplayConfig
from memorax.dtypes import as_before
from memorax.environments import Box, Environment
from memorax.environments.checks import check_action_space
from memorax.networks import Network, heads
from memorax.networks.heads.base import takes


class ContinuousReplayAlgorithm(ReplayAlgorithm):
    """The base class of SAC and TD3: an actor and a critic, each with a memory of its own.

    What the critic reads of an action is that of the unit box: its bounds are brought to -1 and 1.

    Args:
        config: The hyperparameters.
        env: An ``Environment`` or a Gymnax environment of continuous actions, not vectorised.
        env_params: Its parameters.
        actor: A network whose head is a ``policy_head_type``.
        critic: A network whose head values given actions.
        optimizer: The optimizer of the subclass's parameters.

    Raises:
        ValueError: If the networks do not fit the environment, or the replay would not fit into
            memory.
    """

    policy_head_type: type[heads.SquashedGaussian] | type[heads.Deterministic]

    def __init__(
        self,
        config: ReplayConfig,
        env: Environment | Any,
        env_params: Any,
        actor: Network,
        critic: Network,
        optimizer: optax.GradientTransformation,
    ):
        super().__init__(config, env, env_params)
        self.networks = {"actor": actor, "critic": critic}
        self.optimizer = optimizer
        name = type(self).__name__
        space = self.env.action_space(env_params)
        if not isinstance(space, Box):
            raise ValueError(f"{name} acts continuously, got the action space {space}")
        check_action_space(f"{name}.actor", space, bounded=True)
        check_policy(f"{name}.actor", actor, self._envs, env_params)
        self._check_bounds(f"{name}.actor.head", actor.head, space)
        low, high = (
            np.broadcast_to(np.asarray(bound, np.float32), space.shape)
            for bound in (space.low, space.high)
        )
        self._centre, self._reach = (low + high) / 2, (high - low) / 2
        values_actions = takes(critic.head, "candidate_action") and hasattr(critic.head, "loss")
        if not values_actions or isinstance(critic.head, heads.Horde):
            raise ValueError(
                f"{name}.critic.head must value given actions, such as TwinContinuousQNetwork(), "
                f"got {type(critic.head).__name__}"
            )
        self._prepare_replay()

    def _check_bounds(self, field: str, head: Any, space: Box) -> None:
        if not isinstance(head, self.policy_head_type):
            raise ValueError(
                f"{field} must keep within the bounds of the actions, such as "
                f"{self.policy_head_type.__name__}, got {type(head).__name__}"
            )
        for name in ("low", "high"):
            bound = np.asarray(getattr(space, name), np.float32)
            if not np.all(np.isclose(bound, np.asarray(getattr(head, name), np.float32))):
                raise ValueError(
                    f"{field}.{name} must be that of the action space, {bound}, got "
                    f"{getattr(head, name)}"
                )

    def _in_unit_box(self, action: Array) -> Array:
        """Return actions with their bounds brought to -1 and 1."""
        return (action - self._centre) / self._reach

    def _initial_carry(self) -> PyTree:
        return {
            name: network.initialize_carry(self.config.num_envs)
            for name, network in self.networks.items()
        }

    def _policy(self, state: ReplayState, deterministic: bool):
        """Return what acts: the network, its parameters and how it chooses."""

        def choose(key, distribution):
            return distribution.mode() if deterministic else distribution.sample(seed=key)

        return self.networks["actor"], state.params["actor"], choose

    def _choose(self, state: ReplayState, key: Array) -> tuple[PyTree, Array]:
        apply = {
            name: partial(
                apply_step, network, state.params[name], state.timestep, state.carry[name]
            )
            for name, network in self.networks.items()
        }
        actor_carry, distribution = apply["actor"]()
        # Of the critic only its memory is asked, which no candidate action enters.
        critic_carry, _ = apply["critic"]()
        action = self._explore(state, key, distribution)[:, 0]
        carry = {"actor": actor_carry, "critic": critic_carry}
        return carry, action.astype(state.timestep.action.dtype)

    def _explore(self, state: ReplayState, key: Array, distribution: Any) -> Array:
        """Return an action of each environment, of the policy's distributions, to learn from."""
        return distribution.sample(seed=key)

    def _read(
        self,
        name: str,
        params: PyTree,
        sequences: Sequences,
        candidate_action: Array | None = None,
    ) -> tuple[Any, Array]:
        """Return a network's outputs after the burn-in, and the sum of what it sows."""
        return read_sequences(
            self.networks[name],
            params,
            sequences.timestep,
            sequences.carry[name],
            self.config.burn_in_length,
            candidate_action,
        )

    def _taken(self, learned: Sequences) -> Array:
        """Return the actions taken, in the unit box, and any for the last timestep.

        That one is only bootstrapped from.
        """
        taken = jnp.concatenate([learned.action, learned.action[:, -1:]], axis=1)
        return self._in_unit_box(taken)

    def _move_target(self, params: PyTree, target_params: PyTree) -> PyTree:
        """Return the target's parameters after a Polyak average with the learned ones."""
        moved = optax.incremental_update(params, target_params, self.config.target_update_rate)
        # The rate is of 32 bits, and would widen parameters of 16.
        return as_before(target_params, moved)


def least_value(values: Array) -> Array:
    """Return the least of the critics' values, or the only one's."""
    return values.min(axis=-1) if values.ndim == 3 else values
