"""Heads of action values."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.typing import Initializer
from jaxtyping import Array, Float

from memorax.networks.heads.base import (
    check_hidden_dims,
    half_squared_error,
    hidden_layers,
    linear_output,
)
from memorax.networks.heads.value_distribution import (
    ValueDistribution,
    check_support,
    cross_entropy,
    project,
)
from memorax.networks.heads.value_scale import IDENTITY, ValueScale
from memorax.validation import check_positive


class DiscreteQNetwork(nn.Module):
    """The value of every discrete action.

    With ``dueling``, one stream is the value of the state and another how much better than the
    others each action::

        Q(s, a) = V(s) + A(s, a) - mean_a' A(s, a')

    Attributes:
        action_dim: Number of actions.
        dueling: Whether there are two streams (Wang et al. 2016, arXiv 1511.06581, equation 9).
        hidden_dims: Units of the hidden layers that the head has itself, in each stream.
        kernel_init: Of the last layers; orthogonal with scale 1 by default, as for other values.
        hidden_kernel_init: Of the hidden layers; orthogonal with the gain of a ReLU by default.
        bias_init: Initializer of the biases.
        dtype: Of the products; ``None``: of inputs and parameters.
        param_dtype: Of parameters, and at least of values.

    Raises:
        ValueError: At construction, if a size is not positive.

    Examples:
        >>> head = heads.DiscreteQNetwork(action_dim=4, dueling=True)
        >>> output, params = jax.eval_shape(head.init_with_output, key, inputs)
        >>> output.shape
        (2, 5, 4)
    """

    action_dim: int
    dueling: bool = False
    hidden_dims: tuple[int, ...] = ()
    kernel_init: Initializer = nn.initializers.orthogonal(1.0)
    hidden_kernel_init: Initializer = nn.initializers.orthogonal(np.sqrt(2))
    bias_init: Initializer = nn.initializers.zeros_init()
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        """Check the fields."""
        check_positive("DiscreteQNetwork.action_dim", self.action_dim)
        check_hidden_dims("DiscreteQNetwork.hidden_dims", self.hidden_dims)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, features: Float[Array, "batch time features"]
    ) -> Float[Array, "batch time actions"]:
        """Return the value of every action at every step; ``select_action`` picks one's."""
        return _of_every_action(self, features, 1)[..., 0]

    @nn.nowrap
    def bellman_target(
        self,
        reward: Float[Array, "*axes"],
        discount: Float[Array, "*axes"],
        next_output: Float[Array, "*axes"],
        transform: ValueScale = IDENTITY,
    ) -> Float[Array, "*axes"]:
        """Return what selected values should be: h(reward + discount h^-1(next)).

        Args:
            reward: The reward of the action, or the n-step return.
            discount: Discount of the next values; 0 where the episode terminated.
            next_output: The values of the actions selected thereafter.
            transform: The scale h that values are learned on, such as
                ``heads.SIGNED_HYPERBOLIC`` (Kapturowski et al. 2019, R2D2, section 2.3).

        Returns:
            The target, through which no gradient flows.
        """
        target = transform.apply(reward + discount * transform.apply_inv(next_output))
        return jax.lax.stop_gradient(target)

    @nn.nowrap
    def loss(
        self, output: Float[Array, "batch time"], target: Float[Array, "batch time"]
    ) -> Float[Array, "batch time"]:
        """Return half the squared error of selected values at every step."""
        return half_squared_error(output, target)


class C51QNetwork(nn.Module):
    """The distribution of the return of every discrete action over a fixed support.

    Attributes:
        action_dim: Number of actions.
        num_atoms: Number of returns in the support, 51 in the paper.
        v_min: The least return.
        v_max: The largest return.
        dueling: As in ``DiscreteQNetwork``, on the logits (Hessel et al. 2017, arXiv 1710.02298).
        hidden_dims: Units of the hidden layers that the head has itself, in each stream.
        kernel_init: Of the last layers; orthogonal with scale 0.01 by default, so that the first
            distributions are nearly uniform and their means in the middle of the support.
        hidden_kernel_init: Of the hidden layers; orthogonal with the gain of a ReLU by default.
        bias_init: Initializer of the biases.
        dtype: Of the products; ``None``: of inputs and parameters.
        param_dtype: Of parameters, and at least of logits.

    Raises:
        ValueError: At construction, if a size is not positive, there are fewer than two atoms or
            ``v_min >= v_max``.

    Source: Bellemare et al. 2017, arXiv 1707.06887, section 4.

    Examples:
        >>> head = heads.C51QNetwork(action_dim=4, num_atoms=51, v_min=-1.0, v_max=1.0)
        >>> output, params = jax.eval_shape(head.init_with_output, key, inputs)
        >>> output.logits.shape
        (2, 5, 4, 51)
    """

    action_dim: int
    num_atoms: int = 51
    v_min: float = -10.0
    v_max: float = 10.0
    dueling: bool = False
    hidden_dims: tuple[int, ...] = ()
    kernel_init: Initializer = nn.initializers.orthogonal(0.01)
    hidden_kernel_init: Initializer = nn.initializers.orthogonal(np.sqrt(2))
    bias_init: Initializer = nn.initializers.zeros_init()
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        """Check the fields."""
        check_positive("C51QNetwork.action_dim", self.action_dim)
        check_support("C51QNetwork", "num_atoms", self.num_atoms, self.v_min, self.v_max)
        check_hidden_dims("C51QNetwork.hidden_dims", self.hidden_dims)
        super().__post_init__()

    @nn.compact
    def __call__(self, features: Float[Array, "batch time features"]) -> ValueDistribution:
        """Return distributions with logits of shape ``(batch, time, actions, atoms)``.

        ``select_action`` picks those of one action a step.
        """
        logits = _of_every_action(self, features, self.num_atoms)
        return ValueDistribution(logits, float(self.v_min), float(self.v_max))

    @nn.nowrap
    def bellman_target(
        self,
        reward: Float[Array, "*axes"],
        discount: Float[Array, "*axes"],
        next_output: ValueDistribution,
        transform: ValueScale = IDENTITY,
    ) -> Float[Array, "*axes atoms"]:
        """Return what selected distributions should be: that of h(reward + discount h^-1(Z)).

        Its values are moved to the neighbouring atoms; those outside the support to its nearest
        end, which is part of C51's definition: choose the support to hold all returns.

        Args:
            reward: The reward of the action, or the n-step return.
            discount: Discount of the next values; 0 where the episode terminated.
            next_output: The distributions Z of the actions selected thereafter.
            transform: The scale h that returns are learned on, as in ``DiscreteQNetwork``.

        Returns:
            The probabilities of the atoms, through which no gradient flows.
        """
        atoms = next_output.atoms
        values = reward[..., None] + discount[..., None] * transform.apply_inv(atoms)
        values = transform.apply(values)
        return jax.lax.stop_gradient(project(values, next_output.probs, atoms))

    @nn.nowrap
    def loss(
        self, output: ValueDistribution, target: Float[Array, "batch time atoms"]
    ) -> Float[Array, "batch time"]:
        """Return the cross-entropy of selected distributions at every step."""
        return cross_entropy(output, target)


class ContinuousQNetwork(nn.Module):
    """The value of a given continuous action.

    The head has hidden layers of its own: a linear map of features and action could not prefer one
    action here and another there.

    Attributes:
        hidden_dims: Units of the hidden layers; two of 256 as in SAC (Haarnoja et al. 2018, arXiv
            1801.01290, appendix D).
        kernel_init: Of the last layer; orthogonal with scale 1 by default, as for other values.
        hidden_kernel_init: Of the hidden layers; orthogonal with the gain of a ReLU by default
            (Yarats et al. 2019, arXiv 1910.01741, appendix B).
        bias_init: Initializer of the biases.
        dtype: Of the products; ``None``: of inputs and parameters.
        param_dtype: Of parameters, and at least of values.

    Raises:
        ValueError: At construction, if a size is not positive; at the call, if the action is
            missing or does not fit.

    Examples:
        >>> head = heads.ContinuousQNetwork(hidden_dims=(16,))
        >>> action = jnp.zeros((2, 5, 3))
        >>> values, params = jax.eval_shape(head.init_with_output, key, inputs, action)
        >>> values.shape
        (2, 5)
    """

    hidden_dims: tuple[int, ...] = (256, 256)
    kernel_init: Initializer = nn.initializers.orthogonal(1.0)
    hidden_kernel_init: Initializer = nn.initializers.orthogonal(np.sqrt(2))
    bias_init: Initializer = nn.initializers.zeros_init()
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        """Check the fields."""
        check_hidden_dims("ContinuousQNetwork.hidden_dims", self.hidden_dims)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        features: Float[Array, "batch time features"],
        candidate_action: Float[Array, "batch time actions"] | None = None,
    ) -> Float[Array, "batch time"]:
        """Return the value of the candidate action at every step."""
        inputs = _with_action("ContinuousQNetwork", features, candidate_action)
        return linear_output(self, hidden_layers(self, inputs, "value"), 1, "value")[..., 0]

    @nn.nowrap
    def loss(
        self, output: Float[Array, "batch time"], target: Float[Array, "batch time"]
    ) -> Float[Array, "batch time"]:
        """Return half the squared error at every step."""
        return half_squared_error(output, target)


class TwinContinuousQNetwork(nn.Module):
    """The values that several critics, two by default, give a continuous action.

    Each learns by itself from the same target, for which the least of them is taken: one critic
    alone is believed too readily where it errs upwards.

    Attributes:
        num_critics: Number of critics.
        hidden_dims: As in ``ContinuousQNetwork``, in each critic, like the following.
        kernel_init: Of the last layers.
        hidden_kernel_init: Of the hidden layers.
        bias_init: Initializer of the biases.
        dtype: Of the products; ``None``: of inputs and parameters.
        param_dtype: Of parameters, and at least of values.

    Raises:
        ValueError: At construction, if a size is not positive; at the call, if the action is
            missing or does not fit.

    Source: Fujimoto et al. 2018, arXiv 1802.09477, section 4.2; more than two: Chen et al. 2021,
    REDQ, arXiv 2101.05982.

    Examples:
        >>> head = heads.TwinContinuousQNetwork(hidden_dims=(16,))
        >>> action = jnp.zeros((2, 5, 3))
        >>> values, params = jax.eval_shape(head.init_with_output, key, inputs, action)
        >>> values.shape  # the last axis: two critics
        (2, 5, 2)
    """

    num_critics: int = 2
    hidden_dims: tuple[int, ...] = (256, 256)
    kernel_init: Initializer = nn.initializers.orthogonal(1.0)
    hidden_kernel_init: Initializer = nn.initializers.orthogonal(np.sqrt(2))
    bias_init: Initializer = nn.initializers.zeros_init()
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        """Check the fields."""
        check_positive("TwinContinuousQNetwork.num_critics", self.num_critics)
        check_hidden_dims("TwinContinuousQNetwork.hidden_dims", self.hidden_dims)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        features: Float[Array, "batch time features"],
        candidate_action: Float[Array, "batch time actions"] | None = None,
    ) -> Float[Array, "batch time critics"]:
        """Return the critics' values of the candidate action at every step."""
        # Not under jax.vmap: batched QR decompositions of orthogonal initializers can wait for each
        # other forever on CPU (seen with jaxlib 0.10.2 on two cores).
        critics = [
            ContinuousQNetwork(
                hidden_dims=self.hidden_dims,
                kernel_init=self.kernel_init,
                hidden_kernel_init=self.hidden_kernel_init,
                bias_init=self.bias_init,
                dtype=self.dtype,
                param_dtype=self.param_dtype,
                name=f"critic_{index}",
            )
            for index in range(self.num_critics)
        ]
        return jnp.stack([critic(features, candidate_action) for critic in critics], axis=-1)

    @nn.nowrap
    def loss(
        self, output: Float[Array, "batch time critics"], target: Float[Array, "batch time"]
    ) -> Float[Array, "batch time"]:
        """Return half the squared error, summed over the critics, at every step."""
        return half_squared_error(output, target[..., None]).sum(axis=-1)


def _of_every_action(head, features, num_atoms):
    """Return numbers of shape (batch, time, actions, atoms), of one stream or of two."""

    def stream(name, actions):
        flat = linear_output(head, hidden_layers(head, features, name), actions * num_atoms, name)
        return flat.reshape(*flat.shape[:-1], actions, num_atoms)

    if not head.dueling:
        return stream("value", head.action_dim)
    advantage = stream("advantage", head.action_dim)
    return stream("value", 1) + advantage - advantage.mean(axis=-2, keepdims=True)


def _with_action(head, features, action):
    """Append the action to the features."""
    if action is None:
        raise ValueError(f"{head} evaluates actions: pass candidate_action=, or action=")
    leading = features.shape[:2]
    if action.ndim != 3 or action.shape[:2] != leading:
        raise ValueError(
            f"{head}: candidate_action must have shape (batch, time, actions) with (batch, time) "
            f"= {leading}, got {action.shape}"
        )
    if not jnp.issubdtype(action.dtype, jnp.floating):
        raise ValueError(f"{head}: candidate_action must be floating-point, got {action.dtype}")
    return jnp.concatenate([features, action], axis=-1)
