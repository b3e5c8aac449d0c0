"""From observations and other inputs to a feature vector."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree, Shaped

from memorax.networks.sequence_models.base import check_callable, checked_done
from memorax.validation import check_positive


class FeatureExtractor(nn.Module):
    """Extract features from each part of a transition, concatenate them, and encode them jointly.

    The previous action and reward count as zero where an episode starts, whatever is passed
    there: they belong to the episode before, which is forgotten. A one-hot action is all zero
    there, so that it cannot be taken for action 0. Because this happens here, acting and training
    see the same.

    Attributes:
        observation_extractor: Maps the observation, any pytree with leading ``(batch, time)``, to
            ``(batch, time, features)``. Any module or callable, as all extractors.
        action_extractor: Maps the previous action: one-hot if it is discrete and ``action_dim``
            is given, else as ``(batch, time, 1)`` float if discrete, else as it is.
        reward_extractor: Maps the previous reward, as ``(batch, time, 1)`` float.
        done_extractor: Maps ``done``, as ``(batch, time, 1)`` float.
        joint_extractor: Maps the concatenation, ``(batch, time, features)``, to
            ``(batch, time, features_out)``, such as a Dense and a ReLU; ``None``: the concatenation
            is returned as it is. Only a nonlinearity over all parts can represent "this card, at
            an episode's start": without one, the parts are only added up, and a linear
            recurrence cannot single out the first step.
        action_dim: Number of discrete actions.
        across_episodes: Whether the action and reward before an episode's first observation are
            shown as well, which belong to the episode before. For ``RL2Wrapper``, whose trials
            have several episodes that all tell of one task; False by default, for elsewhere
            nothing of an episode may reach the next.

    Raises:
        ValueError: At construction, if an extractor is not callable or ``action_dim`` is not
            positive; at the call, if an input that an extractor asks for is missing or of a shape
            that does not fit.

    Source: the inputs of RL², Duan et al. 2016, arXiv 1611.02779, section 2.2.

    Examples:
        >>> extractor = FeatureExtractor(
        ...     observation_extractor=nn.Dense(16), action_extractor=nn.Dense(8), action_dim=4
        ... )
        >>> action = jnp.zeros((2, 5), int)
        >>> features, params = extractor.init_with_output(key, inputs, action=action)
        >>> features.shape
        (2, 5, 24)
    """

    observation_extractor: nn.Module | Callable[..., Any]
    action_extractor: nn.Module | Callable[..., Any] | None = None
    reward_extractor: nn.Module | Callable[..., Any] | None = None
    done_extractor: nn.Module | Callable[..., Any] | None = None
    joint_extractor: nn.Module | Callable[..., Any] | None = None
    action_dim: int | None = None
    across_episodes: bool = False

    def __post_init__(self):
        """Check the fields."""
        check_callable("FeatureExtractor.observation_extractor", self.observation_extractor)
        optional = ("action_extractor", "reward_extractor", "done_extractor", "joint_extractor")
        for field in optional:
            if getattr(self, field) is not None:
                check_callable(f"FeatureExtractor.{field}", getattr(self, field))
        if self.action_dim is not None:
            check_positive("FeatureExtractor.action_dim", self.action_dim)
        super().__post_init__()

    def __call__(
        self,
        observation: PyTree[Shaped[Array, "batch time ..."]],
        done: Bool[Array, "batch time"] | None = None,
        action: Shaped[Array, "batch time ..."] | None = None,
        reward: Shaped[Array, "batch time"] | None = None,
    ) -> Float[Array, "batch time features"]:
        """Return the features of every step.

        Args:
            observation: The environment's observation, a pytree of arrays.
            done: True where an observation is the first of a new episode; ``None``: none is.
            action: The action before the observation, if an extractor asks for it.
            reward: The reward before the observation, if an extractor asks for it.
        """
        shape = leading_shape(observation)
        done = checked_done("FeatureExtractor", done, shape)
        features = [("observation_extractor", self.observation_extractor(observation))]
        if self.action_extractor is not None:
            action = self._action_features(action, done)
            features.append(("action_extractor", self.action_extractor(action)))
        if self.reward_extractor is not None:
            reward = self._reward_features(reward, done)
            features.append(("reward_extractor", self.reward_extractor(reward)))
        if self.done_extractor is not None:
            features.append(("done_extractor", self.done_extractor(_feature_axis(done))))
        for field, part in features:
            _check_features(field, part, shape)
        joined = jnp.concatenate([part for _, part in features], axis=-1)
        if self.joint_extractor is None:
            return joined
        joint = self.joint_extractor(joined)
        _check_features("joint_extractor", joint, shape)
        return joint

    def _action_features(self, action, done):
        if action is None:
            raise ValueError("FeatureExtractor has an action_extractor: pass action=")
        action = jnp.asarray(action)
        if action.shape[:2] != done.shape:
            raise ValueError(
                f"FeatureExtractor: action must lead with (batch, time) = {done.shape}, "
                f"got {action.shape}"
            )
        discrete = jnp.issubdtype(action.dtype, jnp.integer)
        if self.action_dim is not None:
            if not discrete or action.ndim != 2:
                raise ValueError(
                    "FeatureExtractor: with action_dim, action must be integers of shape "
                    f"(batch, time) = {done.shape}, got {action.dtype} of shape {action.shape}"
                )
            action = jax.nn.one_hot(action, self.action_dim)
        elif action.ndim == 2:
            action = _feature_axis(action)
        elif discrete:
            action = action.astype(float)
        return action if self.across_episodes else _zero_where(done, action)

    def _reward_features(self, reward, done):
        if reward is None:
            raise ValueError("FeatureExtractor has a reward_extractor: pass reward=")
        reward = jnp.asarray(reward)
        if reward.shape != done.shape:
            raise ValueError(
                f"FeatureExtractor: reward must have shape (batch, time) = {done.shape}, "
                f"got {reward.shape}"
            )
        reward = _feature_axis(reward)
        return reward if self.across_episodes else _zero_where(done, reward)


def leading_shape(observation: PyTree) -> tuple[int, int]:
    """Return the ``(batch, time)`` that every leaf of an observation leads with."""
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(observation)]
    leading = {shape[:2] for shape in shapes}
    if len(leading) != 1 or len(shape := leading.pop()) != 2:
        raise ValueError(
            f"every array of an observation must lead with the same (batch, time), got {shapes}"
        )
    return shape


def _check_features(field, features, shape):
    if features.ndim != 3 or features.shape[:2] != shape:
        raise ValueError(
            f"FeatureExtractor.{field} must return (batch, time, features) with "
            f"(batch, time) = {shape}, got {features.shape}"
        )


def _feature_axis(values):
    values = values if jnp.issubdtype(values.dtype, jnp.floating) else values.astype(float)
    return values[..., None]


def _zero_where(done, values):
    done = done.reshape(done.shape + (1,) * (values.ndim - 2))
    return jnp.where(done, jnp.zeros_like(values), values)
