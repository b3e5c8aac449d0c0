"""The pipeline of a memory network."""

import math
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
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
        gradient_checkpointing: Whether a backward pass computes the torso's inside again instead of
            keeping it: time is cut into about as many segments as each has steps, and only the
            carries between them are kept. Outputs and gradients are the same, but those of a
            ``SegmentRecurrence``, whose gradient ends where a segment begins.

    Raises:
        ValueError: At construction, if a part is not a module or callable, or the torso is a bare
            cell; at the call, if a shape, dtype or the carry does not fit, the head does not
            take what is given to it, or the torso sows losses that segments would change.

    Source: for the checkpoints Chen et al. 2016, arXiv 1604.06174.

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
    gradient_checkpointing: bool = False

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
        in_segments = self.gradient_checkpointing and done.shape[1] > 1
        read = self._read_in_segments if in_segments and not self.is_initializing() else self._read
        try:
            carry, features = read((observation, done, action, reward), initial_carry)
        except ScopeParamShapeError as error:
            raise ValueError(_of_other_widths(error, observation)) from error
        if candidate_action is None and takes(self.head, "candidate_action"):
            candidate_action = action
        return carry, apply_head(self.head, features, candidate_action, action_mask)

    def _read(self, inputs, carry):
        observation, done, action, reward = inputs
        features = self.feature_extractor(observation, done=done, action=action, reward=reward)
        return apply_sequence_model(self.torso, features, done, carry)

    def _read_in_segments(self, inputs, carry):
        batch, time = inputs[1].shape
        carry = self.initialize_carry(batch) if carry is None else carry
        length = segment_length(time)
        whole = time // length * length
        read = nn.remat(Network._read_segment, prevent_cse=False)
        scan = nn.scan(
            read,
            variable_broadcast="params",
            variable_axes={"losses": 0},
            split_rngs={"params": False, "dropout": True},
        )

        def in_segments(leaf):
            leaf = leaf[:, :whole].reshape(batch, -1, length, *leaf.shape[2:])
            return jnp.swapaxes(leaf, 0, 1)

        carry, features = scan(self, carry, jax.tree.map(in_segments, inputs))
        features = jnp.swapaxes(features, 0, 1).reshape(batch, whole, -1)
        if whole < time:
            rest = jax.tree.map(lambda leaf: leaf[:, whole:], inputs)
            carry, last = read(self, carry, rest)
            features = jnp.concatenate([features, last], axis=1)
        if self.variables.get("losses"):
            raise ValueError(
                "Network.gradient_checkpointing must be False for a torso that sows losses, which "
                "are those of a whole call"
            )
        return carry, features

    def _read_segment(self, carry, inputs):
        return self._read(inputs, carry)

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


def segment_length(time: int) -> int:
    """Return the steps of a segment of gradient checkpointing: a power of two near time's root."""
    return 2 ** round(math.log2(time) / 2)


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
