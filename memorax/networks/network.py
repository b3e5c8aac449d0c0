"""The pipeline of a memory network."""

import re
from typing import Any

import flax.linen as nn
import jax
from flax.errors import ScopeParamShapeError
from jaxtyping import Array, Bool, PyTree, Shaped

from memorax.networks.feature_extractor import leading_shape
from memorax.networks.heads.base import apply_head, takes
from memorax.networks.sequence_models.base import (
    Carry,
    apply_sequence_model,
    check_callable,
    check_sequence_model,
    checked_done,
    initialize_carry,
)


class Network(nn.Module):
    """A feature extractor, a torso that remembers, and a head, applied in sequence.

    Attributes:
        feature_extractor: A ``FeatureExtractor``.
        torso: A sequence model, or any plain module, which is one without memory.
        head: Maps the torso's outputs to what the algorithm needs.

    Raises:
        ValueError: At construction, if a part is not a module or callable, or the torso is a bare
            cell; at the call, if a shape, dtype or the carry does not fit, or the head does not
            take what is given to it.

    Examples:
        >>> network = Network(
        ...     feature_extractor=FeatureExtractor(observation_extractor=nn.Dense(16)),
        ...     torso=RNN(nn.GRUCell(16)),
        ...     head=heads.Categorical(action_dim=4),
        ... )
        >>> params = network.init(key, inputs)
        >>> carry, policy = network.apply(params, inputs, initial_carry=network.initialize_carry(2))
    """

    feature_extractor: Any
    torso: Any
    head: Any

    def __post_init__(self):
        """Check the fields."""
        check_callable("Network.feature_extractor", self.feature_extractor)
        check_sequence_model("Network.torso", self.torso)
        check_callable("Network.head", self.head)
        super().__post_init__()

    def __call__(
        self,
        observation: PyTree[Shaped[Array, "batch time ..."]],
        done: Bool[Array, "batch time"] | None = None,
        action: Shaped[Array, "batch time ..."] | None = None,
        reward: Shaped[Array, "batch time"] | None = None,
        initial_carry: Carry | None = None,
        candidate_action: Shaped[Array, "batch time ..."] | None = None,
        action_mask: Bool[Array, "batch time actions"] | None = None,
    ) -> tuple[Carry, Any]:
        """Read a chunk of a sequence: one step while acting, many while training.

        Args:
            observation: The environment's observation, a pytree of arrays.
            done: True where an observation is the first of a new episode; ``None``: none is.
            action: The action **before** the observation; only needed with an action extractor.
            reward: The reward **before** the observation; only needed with a reward extractor.
            initial_carry: The carry returned for the previous chunk; ``None``: a fresh one.
            candidate_action: The action to evaluate, for a head that evaluates actions; ``None`` is
                ``action``.
            action_mask: True where an action is allowed, for a head that takes it, such as
                ``Categorical``; ``None``: all are.

        Returns:
            The carry for the next chunk and the head's output.
        """
        done = checked_done("Network", done, leading_shape(observation))
        try:
            features = self.feature_extractor(observation, done=done, action=action, reward=reward)
        except ScopeParamShapeError as error:
            raise ValueError(_of_other_widths(error, observation)) from error
        carry, features = apply_sequence_model(self.torso, features, done, initial_carry)
        if candidate_action is None and takes(self.head, "candidate_action"):
            candidate_action = action
        return carry, apply_head(self.head, features, candidate_action, action_mask)

    @nn.nowrap
    def initialize_carry(
        self, input_shape: int | tuple[int, ...], key: Array | None = None
    ) -> Carry:
        """Return the torso's carry before anything was seen.

        Args:
            input_shape: The batch size, or ``(batch, features)``. Only the batch matters to the
                memories of this package.
            key: For torsos whose initial carry is random; the default is what the network itself
                starts from when it is called with no carry.
        """
        if isinstance(input_shape, int):
            input_shape = (input_shape, 1)
        return initialize_carry(self.torso, jax.random.key(0) if key is None else key, input_shape)


def _of_other_widths(error: ScopeParamShapeError, observation: PyTree) -> str:
    """Say which inputs the parameters were made for; Flax's message has the shapes of a kernel."""
    (path,) = re.findall(r'in "/?([^"]*)"', str(error))
    got, wanted = re.findall(r"shape \((\d+)", str(error))
    shapes = ", ".join(str(leaf.shape) for leaf in jax.tree.leaves(observation))
    return (
        f"Network: {path} reads {got} features, and its parameters were made for {wanted}: "
        f"observation, action and reward must have the shapes that init was given, got observation "
        f"of shape {shapes}"
    )
