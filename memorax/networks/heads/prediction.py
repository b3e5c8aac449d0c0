"""Heads of auxiliary predictions: general value functions, and hordes of them."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from flax.core import FrozenDict
from jaxtyping import Array, Bool, Float, PyTree, Shaped

from memorax.networks.blocks.base import unshared
from memorax.networks.heads.base import apply_head, takes
from memorax.networks.heads.value_distribution import expected_value
from memorax.networks.sequence_models.base import check_callable
from memorax.validation import check_between


@struct.dataclass
class DemonTransition:
    """A transition from one step to the next. All fields lead with the axes of the reward.

    Attributes:
        observation: The observation before the action, a pytree.
        action: The action.
        reward: Its reward.
        next_observation: The observation after the action; at an episode's end, its last
            observation and not the first of the next episode.
        terminated: bool; true where the episode terminated. At a time limit it is false.

    Examples:
        >>> action, reward = jnp.zeros((2, 5), int), jnp.ones((2, 5))
        >>> transition = heads.DemonTransition(inputs, action, reward, inputs, reward == 0)
        >>> demon = heads.GVF(heads.VNetwork(), cumulant=lambda step: step.reward, discount=0.9)
        >>> demon.target(transition, next_prediction=jnp.zeros((2, 5))).shape
        (2, 5)
    """

    observation: PyTree
    action: PyTree
    reward: PyTree
    next_observation: PyTree
    terminated: PyTree


class GVF(nn.Module):
    """A general value function, the demon of a horde: the discounted sum of a signal.

    With c the cumulant and g the discount of a transition, it learns from each::

        target = c + g V(next),        g = 0 where the episode terminated

    Attributes:
        head: A head of state values that has a ``loss``: ``VNetwork`` or ``HLGaussVNetwork``.
        cumulant: From a ``DemonTransition`` to the signal, of the shape of the reward.
        discount: From 0 to 1, or a function from a ``DemonTransition`` to that, of the shape of the
            reward. Zero ends what is summed up, also in the middle of an episode.

    Raises:
        ValueError: At construction, if ``head`` is not such a head, there is no ``cumulant``, or
            ``discount`` is out of its range; later, if what they return has another shape.

    Source: Sutton et al. 2011, "Horde", AAMAS, section 4.

    Examples:
        >>> demon = heads.GVF(heads.VNetwork(), cumulant=lambda step: step.reward, discount=0.9)
        >>> prediction, params = demon.init_with_output(key, inputs)
        >>> prediction.shape
        (2, 5)
    """

    head: Any
    cumulant: Any = None
    discount: Any = None

    def __post_init__(self):
        """Check the fields."""
        check_callable("GVF.head", self.head)
        if not hasattr(self.head, "loss"):
            raise ValueError(
                f"GVF.head must have a loss, such as VNetwork(), got {type(self.head).__name__}"
            )
        if hasattr(self.head, "bellman_target") or takes(self.head, "candidate_action"):
            raise ValueError(
                "GVF.head must say how good a state is, such as VNetwork(), got "
                f"{type(self.head).__name__}, which says so of actions"
            )
        if not callable(self.cumulant):
            raise ValueError(
                f"GVF.cumulant must be a function of a DemonTransition, got {self.cumulant!r}"
            )
        if not callable(self.discount):
            check_between("GVF.discount", self.discount, 0.0, 1.0)
        super().__post_init__()

    def __call__(self, features: Float[Array, "batch time features"]) -> Any:
        """Return the prediction at every step, as the head returns it."""
        output = self.head(features)
        shape = jnp.shape(expected_value(output))
        if shape != features.shape[:2]:
            raise ValueError(
                f"GVF.head must predict one number a step, of shape {features.shape[:2]}, "
                f"got {shape}"
            )
        return output

    @nn.nowrap
    def target(
        self, transition: DemonTransition, next_prediction: Float[Array, "*axes"]
    ) -> Float[Array, "*axes"]:
        """Return the targets of the predictions before transitions.

        Args:
            transition: The transition that it is computed from.
            next_prediction: The prediction after each transition, also after the last of a chunk;
                it is not read where the episode terminated.

        Returns:
            The target, through which no gradient flows.
        """
        shape = jnp.shape(transition.reward)
        cumulant = self.cumulant(transition)
        _check_shape("cumulant", cumulant, shape)
        discount: Any = self.discount
        if callable(discount):
            discount = discount(transition)
            _check_shape("discount", discount, shape)
        to_come = jnp.where(transition.terminated, 0.0, discount * next_prediction)
        return jax.lax.stop_gradient(cumulant + to_come)

    @nn.nowrap
    def loss(self, output: Any, target: Float[Array, "batch time"]) -> Float[Array, "batch time"]:
        """Return the head's loss at every step."""
        return self.head.loss(output, target)


@struct.dataclass
class HordeOutput:
    """The outputs of a horde.

    Attributes:
        head: The main head's output.
        demons: The demons' outputs by name.

    Examples:
        >>> demon = heads.GVF(heads.VNetwork(), cumulant=lambda step: step.reward, discount=0.9)
        >>> head = heads.Horde(heads.Categorical(action_dim=4), demons={"reward": demon})
        >>> output, params = jax.eval_shape(head.init_with_output, key, inputs)
        >>> output.demons["reward"].shape
        (2, 5)
    """

    head: PyTree
    demons: PyTree


class Horde(nn.Module):
    """A main head and demons that predict from the same features.

    Each demon has parameters of its own, even if one module instance is the head of several. The
    main head's output is what it would be alone; the demons shape the features by what they
    learn. ``main_head``, ``main_output`` and ``predictions`` read any head's output, a horde's or
    not, so that an algorithm need not tell them apart.

    Attributes:
        head: The main head, any.
        demons: General value functions by name.

    Raises:
        ValueError: At construction, if ``head`` is not a head or is a horde, or ``demons`` are not
            a mapping from names to ``GVF``, or empty.

    Source: Sutton et al. 2011, "Horde", AAMAS; as auxiliary tasks: Jaderberg et al. 2016, arXiv
    1611.05397.

    Examples:
        >>> demon = heads.GVF(heads.VNetwork(), cumulant=lambda step: step.reward, discount=0.9)
        >>> head = heads.Horde(heads.Categorical(action_dim=4), demons={"reward": demon})
        >>> output, params = jax.eval_shape(head.init_with_output, key, inputs)
        >>> output.head.logits.shape, output.demons["reward"].shape
        ((2, 5, 4), (2, 5))
    """

    head: Any
    demons: Mapping[str, GVF]

    def __post_init__(self):
        """Check the fields, and make the module hashable."""
        check_callable("Horde.head", self.head)
        if isinstance(self.head, Horde):
            raise ValueError("Horde.head must not be a Horde itself: give one all the demons")
        if not isinstance(self.demons, Mapping) or not self.demons:
            raise ValueError(
                'Horde.demons must be a mapping from names to GVF, such as {"reward": GVF(...)}, '
                f"got {self.demons!r}"
            )
        for name, demon in self.demons.items():
            if not isinstance(name, str) or not isinstance(demon, GVF):
                raise ValueError(
                    f"Horde.demons must be GVF by name, got {type(demon).__name__} as {name!r}"
                )
        self.demons = FrozenDict(self.demons)
        super().__post_init__()

    def setup(self):
        """Give each demon its own parameters."""
        self.predictors = {name: unshared(demon) for name, demon in self.demons.items()}

    def __call__(
        self,
        features: Float[Array, "batch time features"],
        candidate_action: Shaped[Array, "batch time ..."] | None = None,
        action_mask: Bool[Array, "batch time actions"] | None = None,
    ) -> HordeOutput:
        """Return the main head's output and the demons' predictions at every step.

        Args:
            features: The torso's outputs.
            candidate_action: For a main head that takes it.
            action_mask: For a main head that takes it.
        """
        return HordeOutput(
            head=apply_head(self.head, features, candidate_action, action_mask),
            demons={name: demon(features) for name, demon in self.predictors.items()},
        )

    @nn.nowrap
    def targets(
        self, transition: DemonTransition, next_predictions: Mapping[str, Float[Array, "*axes"]]
    ) -> dict[str, Float[Array, "*axes"]]:
        """Return each demon's target; see ``GVF.target``.

        Args:
            transition: The transition that it is computed from.
            next_predictions: Each demon's prediction after each transition, as ``predictions``
                reads it from an output.
        """
        return {
            name: demon.target(transition, next_predictions[name])
            for name, demon in self.demons.items()
        }

    @nn.nowrap
    def loss(
        self, output: HordeOutput, target: Mapping[str, Float[Array, "batch time"]]
    ) -> Float[Array, "batch time"]:
        """Return the sum of the demons' losses at every step; the main head has its own."""
        losses = [
            demon.loss(output.demons[name], target[name]) for name, demon in self.demons.items()
        ]
        return sum(losses[1:], start=losses[0])


def main_head(head: Any) -> Any:
    """Return the main head of a horde, or any other head itself."""
    return head.head if isinstance(head, Horde) else head


def main_output(output: Any) -> Any:
    """Return the main head's part of a horde's output, or any other output itself."""
    return output.head if isinstance(output, HordeOutput) else output


def predictions(output: Any) -> dict[str, Float[Array, "batch time"]]:
    """Return the demons' expected values by name; of an output without demons, none."""
    demons = output.demons if isinstance(output, HordeOutput) else {}
    return {name: expected_value(demon) for name, demon in demons.items()}


def _check_shape(field, values, shape):
    if jnp.shape(values) != shape:
        raise ValueError(
            f"GVF.{field} must return an array of the reward's shape {shape}, got shape "
            f"{jnp.shape(values)}"
        )
