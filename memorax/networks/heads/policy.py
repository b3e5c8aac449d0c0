"""Heads of policies."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.typing import Initializer
from jaxtyping import Array, Bool, Float

from memorax import distributions
from memorax.networks.heads.base import check_hidden_dims, hidden_layers, linear_output
from memorax.validation import check_between, check_positive

LOG_SCALE_BOUNDS = (-20.0, 2.0)


class Categorical(nn.Module):
    """A distribution over discrete actions.

    Attributes:
        action_dim: Number of actions.
        kernel_init: Orthogonal with scale 0.01 by default, so that the first policy is nearly
            uniform (Andrychowicz et al. 2020, arXiv 2006.05990, section 3.2).
        bias_init: Initializer of the bias.
        hidden_dims: Units of the hidden layers that the head has itself, each with a ReLU.
        hidden_kernel_init: Of the hidden layers; orthogonal with the gain of a ReLU by default.
        dtype: Of the product; ``None``: of inputs and parameters.
        param_dtype: Of parameters, and at least of logits.

    Raises:
        ValueError: At construction, if ``action_dim`` is not positive; at the call, if the mask
            does not fit.

    Examples:
        >>> head = heads.Categorical(action_dim=4)
        >>> policy, params = head.init_with_output(key, inputs)
        >>> policy.sample(seed=key).shape
        (2, 5)
    """

    action_dim: int
    kernel_init: Initializer = nn.initializers.orthogonal(0.01)
    bias_init: Initializer = nn.initializers.zeros_init()
    hidden_dims: tuple[int, ...] = ()
    hidden_kernel_init: Initializer = nn.initializers.orthogonal(np.sqrt(2))
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        """Check the fields."""
        check_positive("Categorical.action_dim", self.action_dim)
        check_hidden_dims("Categorical.hidden_dims", self.hidden_dims)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        features: Float[Array, "batch time features"],
        action_mask: Bool[Array, "batch time actions"] | None = None,
    ) -> distributions.Categorical:
        """Return the distribution at every step, of batch shape ``(batch, time)``.

        Args:
            features: The torso's outputs.
            action_mask: True where an action is allowed; ``None``: all are. The others have
                probability zero and a finite log-probability. Where none is allowed, the
                distribution is uniform over all actions.
        """
        features = hidden_layers(self, features, "policy")
        logits = linear_output(self, features, self.action_dim, "logits")
        if action_mask is not None:
            if action_mask.shape != logits.shape or action_mask.dtype != bool:
                raise ValueError(
                    "Categorical: action_mask must be bool of shape (batch, time, actions) = "
                    f"{logits.shape}, got {action_mask.dtype} of shape {action_mask.shape}"
                )
            # Half of the least number, so that normalising cannot overflow.
            logits = jnp.where(action_mask, logits, jnp.finfo(logits.dtype).min / 2)
        return distributions.Categorical(logits=logits)


class Gaussian(nn.Module):
    """A normal distribution over continuous actions, independent in each dimension.

    Attributes:
        action_dim: Number of dimensions of an action.
        kernel_init: Orthogonal with scale 0.01 by default, so that the first means are near zero
            (Andrychowicz et al. 2020, arXiv 2006.05990, section 3.2).
        bias_init: Initializer of the mean's bias.
        log_scale_init: Initializer of the logarithm of the standard deviation, or of its bias if it
            depends on the state; zero by default, a standard deviation of 1.
        state_dependent_scale: Whether the standard deviation is computed from the features, within
            ``log_scale_bounds``. By default it is one parameter a dimension, as PPO has it
            (Schulman et al. 2017, arXiv 1707.06347, section 6.1).
        log_scale_bounds: Where the logarithm of a state-dependent standard deviation is clipped, as
            in ``SquashedGaussian``.
        hidden_dims: Units of the hidden layers that the head has itself, each with a ReLU.
        hidden_kernel_init: Of the hidden layers; orthogonal with the gain of a ReLU by default.
        dtype: Of the products; ``None``: of inputs and parameters.
        param_dtype: Of parameters, and at least of mean and scale.

    Raises:
        ValueError: At construction, if ``action_dim`` is not positive or the bounds are none.

    Examples:
        >>> head = heads.Gaussian(action_dim=3)
        >>> output, params = jax.eval_shape(head.init_with_output, key, inputs)
        >>> output.batch_shape, output.event_shape
        ((2, 5), (3,))
    """

    action_dim: int
    kernel_init: Initializer = nn.initializers.orthogonal(0.01)
    bias_init: Initializer = nn.initializers.zeros_init()
    log_scale_init: Initializer = nn.initializers.zeros_init()
    state_dependent_scale: bool = False
    log_scale_bounds: tuple[float, float] = LOG_SCALE_BOUNDS
    hidden_dims: tuple[int, ...] = ()
    hidden_kernel_init: Initializer = nn.initializers.orthogonal(np.sqrt(2))
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        """Check the fields."""
        check_positive("Gaussian.action_dim", self.action_dim)
        check_hidden_dims("Gaussian.hidden_dims", self.hidden_dims)
        _check_bounds("Gaussian.log_scale_bounds", self.log_scale_bounds)
        super().__post_init__()

    @nn.compact
    def __call__(self, features: Float[Array, "batch time features"]) -> distributions.Independent:
        """Return the distribution at every step, of batch shape ``(batch, time)``."""
        features = hidden_layers(self, features, "policy")
        mean = linear_output(self, features, self.action_dim, "mean")
        if self.state_dependent_scale:
            scale = _state_dependent_scale(self, features)
        else:
            log_scale = self.param(
                "log_scale", self.log_scale_init, (self.action_dim,), self.param_dtype
            )
            scale = jnp.broadcast_to(jnp.exp(log_scale).astype(mean.dtype), mean.shape)
        return distributions.Independent(distributions.Normal(mean, scale))


class SquashedGaussian(nn.Module):
    """A normal distribution squashed by tanh into bounds, its scale dependent on the state.

    Attributes:
        action_dim: Number of dimensions of an action.
        low: The least action, one for all dimensions or a tuple with one for each.
        high: The largest action, likewise.
        kernel_init: Orthogonal with scale 0.01 by default, so that the first actions are around the
            middle of the bounds, where tanh has a gradient.
        bias_init: Initializer of the mean's bias.
        log_scale_init: Initializer of the bias of the standard deviation's logarithm; zero by
            default, a standard deviation of 1 before squashing.
        log_scale_bounds: Where the logarithm of the standard deviation is clipped; -20 and 2 as in
            the code of the authors of SAC (Haarnoja et al. 2018, arXiv 1801.01290).
        hidden_dims: Units of the hidden layers that the head has itself, each with a ReLU.
        hidden_kernel_init: Of the hidden layers; orthogonal with the gain of a ReLU by default.
        dtype: Of the products; ``None``: of inputs and parameters.
        param_dtype: Of parameters, and at least of mean and scale.

    Raises:
        ValueError: At construction, if ``action_dim`` is not positive or bounds are none.

    Examples:
        >>> head = heads.SquashedGaussian(action_dim=3, low=-2.0, high=2.0)
        >>> output, params = jax.eval_shape(head.init_with_output, key, inputs)
        >>> output.batch_shape, output.event_shape
        ((2, 5), (3,))
    """

    action_dim: int
    low: float | tuple[float, ...] = -1.0
    high: float | tuple[float, ...] = 1.0
    kernel_init: Initializer = nn.initializers.orthogonal(0.01)
    bias_init: Initializer = nn.initializers.zeros_init()
    log_scale_init: Initializer = nn.initializers.zeros_init()
    log_scale_bounds: tuple[float, float] = LOG_SCALE_BOUNDS
    hidden_dims: tuple[int, ...] = ()
    hidden_kernel_init: Initializer = nn.initializers.orthogonal(np.sqrt(2))
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        """Check the fields."""
        check_positive("SquashedGaussian.action_dim", self.action_dim)
        check_hidden_dims("SquashedGaussian.hidden_dims", self.hidden_dims)
        _check_bounds("SquashedGaussian.log_scale_bounds", self.log_scale_bounds)
        _check_action_bounds(self)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, features: Float[Array, "batch time features"]
    ) -> distributions.SquashedNormal:
        """Return the distribution at every step, of batch shape ``(batch, time)``."""
        features = hidden_layers(self, features, "policy")
        mean = linear_output(self, features, self.action_dim, "mean")
        scale = _state_dependent_scale(self, features)
        return distributions.SquashedNormal(mean, scale, *_action_bounds(self, mean.dtype))


class Deterministic(nn.Module):
    """One continuous action, squashed by tanh into bounds.

    Attributes:
        action_dim: Number of dimensions of an action.
        low: The least action, one for all dimensions or a tuple with one for each.
        high: The largest action, likewise.
        kernel_init: Orthogonal with scale 0.01 by default, so that the first actions are around the
            middle of the bounds, where tanh has a gradient.
        bias_init: Initializer of the bias.
        hidden_dims: Units of the hidden layers that the head has itself, each with a ReLU.
        hidden_kernel_init: Of the hidden layers; orthogonal with the gain of a ReLU by default.
        dtype: Of the products; ``None``: of inputs and parameters.
        param_dtype: Of parameters, and at least of actions.

    Raises:
        ValueError: At construction, if ``action_dim`` is not positive or bounds are none.

    Source: Lillicrap et al. 2015, arXiv 1509.02971, section 7; Fujimoto et al. 2018, arXiv
    1802.09477.

    Examples:
        >>> head = heads.Deterministic(action_dim=3, low=-2.0, high=2.0)
        >>> policy, params = head.init_with_output(key, inputs)
        >>> policy.mode().shape
        (2, 5, 3)
    """

    action_dim: int
    low: float | tuple[float, ...] = -1.0
    high: float | tuple[float, ...] = 1.0
    kernel_init: Initializer = nn.initializers.orthogonal(0.01)
    bias_init: Initializer = nn.initializers.zeros_init()
    hidden_dims: tuple[int, ...] = ()
    hidden_kernel_init: Initializer = nn.initializers.orthogonal(np.sqrt(2))
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        """Check the fields."""
        check_positive("Deterministic.action_dim", self.action_dim)
        check_hidden_dims("Deterministic.hidden_dims", self.hidden_dims)
        _check_action_bounds(self)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, features: Float[Array, "batch time features"]
    ) -> distributions.Deterministic:
        """Return the action at every step, as a distribution of batch shape ``(batch, time)``."""
        features = hidden_layers(self, features, "policy")
        latent = linear_output(self, features, self.action_dim, "action")
        low, high = _action_bounds(self, latent.dtype)
        action = (low + high) / 2 + (high - low) / 2 * jnp.tanh(latent)
        return distributions.Deterministic(action)


class Temperature(nn.Module):
    """The weight of the entropy in SAC, learned so that the policy keeps a given entropy.

    It is a separate network, called without inputs, and minimises::

        loss = - temperature (log p(a) + target_entropy)

    over its logarithm: it grows while the policy's entropy is below the target.

    Attributes:
        target_entropy: The entropy to keep; minus the number of the action's dimensions is the
            published choice for continuous actions.
        initial_temperature: Where it begins.
        param_dtype: Of the parameter.

    Raises:
        ValueError: At construction, if ``target_entropy`` is not finite or ``initial_temperature``
            is not positive.

    Source: Haarnoja et al. 2018, arXiv 1812.05905, section 5, equation 18.

    Examples:
        >>> temperature = heads.Temperature(target_entropy=-3.0, initial_temperature=0.5)
        >>> value, params = temperature.init_with_output(key)
        >>> round(float(value), 3)
        0.5
    """

    target_entropy: float | Float[Array, ""]
    initial_temperature: float | Float[Array, ""] = 1.0
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        """Check the fields."""
        largest, least = float(np.finfo(np.float32).max), float(np.finfo(np.float32).tiny)
        check_between("Temperature.target_entropy", self.target_entropy, -largest, largest)
        check_between("Temperature.initial_temperature", self.initial_temperature, least, largest)
        super().__post_init__()

    @nn.compact
    def __call__(self) -> Float[Array, ""]:
        """Return the temperature."""
        initializer = nn.initializers.constant(jnp.log(self.initial_temperature))
        return jnp.exp(self.param("log_temperature", initializer, (), self.param_dtype))

    @nn.nowrap
    def loss(
        self, output: Float[Array, ""], log_prob: Float[Array, "batch time"]
    ) -> Float[Array, "batch time"]:
        """Return the loss at every step; the policy gets no gradient from it.

        Args:
            output: The temperature.
            log_prob: The log-probabilities of actions drawn from the policy.
        """
        return -output * jax.lax.stop_gradient(log_prob + self.target_entropy)


def _state_dependent_scale(head, features):
    log_scale = nn.Dense(
        head.action_dim,
        dtype=head.dtype,
        param_dtype=head.param_dtype,
        kernel_init=head.kernel_init,
        bias_init=head.log_scale_init,
        name="log_scale",
    )(features)
    log_scale = log_scale.astype(jnp.promote_types(log_scale.dtype, head.param_dtype))
    return jnp.exp(jnp.clip(log_scale, *head.log_scale_bounds))


def _check_bounds(field, bounds):
    if not isinstance(bounds, tuple) or len(bounds) != 2:
        raise ValueError(f"{field} must be two numbers, got {bounds!r}")
    largest = float(np.finfo(np.float32).max)
    for bound in bounds:
        check_between(field, bound, -largest, largest)
    if bounds[0] >= bounds[1]:
        raise ValueError(f"{field} must be a lower and a higher number, got {bounds}")


def _action_bounds(head, dtype):
    """Return the least and the largest action of a head, each of shape (actions,)."""
    return (
        jnp.broadcast_to(jnp.asarray(bound, dtype), head.action_dim)
        for bound in (head.low, head.high)
    )


def _check_action_bounds(head):
    name = type(head).__name__
    for field in ("low", "high"):
        bound = getattr(head, field)
        if isinstance(bound, tuple) and len(bound) != head.action_dim:
            raise ValueError(
                f"{name}.{field} must be one number or one for each of the "
                f"{head.action_dim} dimensions of an action, got {bound}"
            )
    low, high = (
        bound if isinstance(bound, tuple) else (bound,) * head.action_dim
        for bound in (head.low, head.high)
    )
    for bounds in zip(low, high, strict=True):
        _check_bounds(f"{name}'s low and high", bounds)
