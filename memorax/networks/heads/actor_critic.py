"""A policy and a value from the features of one torso."""

from typing import Any

import flax.linen as nn
from flax import struct
from jaxtyping import Array, Bool, Float, PyTree

from memorax.networks.heads.base import apply_head, takes
from memorax.networks.heads.prediction import Horde, main_head, main_output
from memorax.networks.sequence_models.base import check_callable


@struct.dataclass
class ActorCriticOutput:
    """The outputs of an actor and a critic that share a torso.

    Attributes:
        policy: The actor's output, a distribution over actions.
        value: The critic's output, ``(batch, time)``, or a distribution over values.

    Examples:
        >>> head = heads.ActorCritic(actor=heads.Categorical(action_dim=4), critic=heads.VNetwork())
        >>> output, params = jax.eval_shape(head.init_with_output, key, inputs)
        >>> isinstance(output, heads.ActorCriticOutput)
        True
    """

    policy: PyTree
    value: PyTree


class ActorCritic(nn.Module):
    """A policy head and a value head over the same features, so that both share one memory.

    The head of one network that PPO takes in place of an actor and a critic, so that one torso runs
    and is trained in place of two. Gradients of both losses reach it.

    Attributes:
        actor: A head that returns a distribution over actions, such as ``Categorical``.
        critic: A head that values states and has a ``loss``, such as ``VNetwork``.

    Raises:
        ValueError: At construction, if a part is not callable, is a ``Horde`` (put the ``Horde``
            around the ``ActorCritic``), or the critic values actions or has no ``loss``.

    Source: the network with shared parameters of Mnih et al. 2016, arXiv 1602.01783, section 4.

    Examples:
        >>> head = heads.ActorCritic(actor=heads.Categorical(action_dim=4), critic=heads.VNetwork())
        >>> output, params = jax.eval_shape(head.init_with_output, key, inputs)
        >>> output.policy.logits.shape, output.value.shape
        ((2, 5, 4), (2, 5))
    """

    actor: Any
    critic: Any

    def __post_init__(self):
        """Check the fields."""
        for field in ("actor", "critic"):
            part = getattr(self, field)
            check_callable(f"ActorCritic.{field}", part)
            if isinstance(part, Horde):
                raise ValueError(
                    f"ActorCritic.{field} must not be a Horde: write "
                    "Horde(head=ActorCritic(...), demons=...)"
                )
        if not hasattr(self.critic, "loss") or takes(self.critic, "candidate_action"):
            raise ValueError(
                "ActorCritic.critic must value states and have a loss, such as VNetwork(), got "
                f"{type(self.critic).__name__}"
            )
        super().__post_init__()

    def __call__(
        self,
        features: Float[Array, "batch time features"],
        action_mask: Bool[Array, "batch time actions"] | None = None,
    ) -> ActorCriticOutput:
        """Return policy and value at every step.

        Args:
            features: The torso's outputs.
            action_mask: For an actor that takes it, such as ``Categorical``.
        """
        policy = apply_head(self.actor, features, action_mask=action_mask)
        return ActorCriticOutput(policy=policy, value=self.critic(features))


def policy_head(head: Any) -> Any:
    """Return the head that acts: an ``ActorCritic``'s actor, or the main head itself."""
    head = main_head(head)
    return head.actor if isinstance(head, ActorCritic) else head


def value_head(head: Any) -> Any:
    """Return the head that values: an ``ActorCritic``'s critic, or the main head itself."""
    head = main_head(head)
    return head.critic if isinstance(head, ActorCritic) else head


def policy_output(output: Any) -> Any:
    """Return the policy of an ``ActorCritic``'s output, or the main output itself."""
    output = main_output(output)
    return output.policy if isinstance(output, ActorCriticOutput) else output


def value_output(output: Any) -> Any:
    """Return the value of an ``ActorCritic``'s output, or the main output itself."""
    output = main_output(output)
    return output.value if isinstance(output, ActorCriticOutput) else output
