"""Layers that heads share, and how a network calls a head."""

import inspect
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Initializer
from jaxtyping import Array, Bool, Float, Shaped

from memorax.validation import check_positive


def dense(head: Any, features: int, name: str, kernel_init: Initializer | None = None) -> nn.Dense:
    """Return a linear map inside a head, with the head's initializers and dtypes."""
    return nn.Dense(
        features,
        dtype=head.dtype,
        param_dtype=head.param_dtype,
        kernel_init=kernel_init or head.kernel_init,
        bias_init=head.bias_init,
        name=name,
    )


def linear_output(
    head: Any,
    inputs: Float[Array, "batch time features"],
    features: int,
    name: str,
    kernel_init: Initializer | None = None,
) -> Float[Array, "batch time features_out"]:
    """Map linearly to the head's outputs, at least in the precision of its parameters.

    The product is computed in ``head.dtype``; log-probabilities and losses that follow would lose
    too much in half precision.
    """
    outputs = dense(head, features, name, kernel_init)(inputs)
    return outputs.astype(jnp.promote_types(outputs.dtype, head.param_dtype))


def hidden_layers(
    head: Any, inputs: Float[Array, "batch time features"], name: str
) -> Float[Array, "batch time hidden_dim"]:
    """Apply the head's own layers of ``head.hidden_dims`` units, each with a ReLU."""
    for index, hidden_dim in enumerate(head.hidden_dims):
        layer = dense(head, hidden_dim, f"{name}_hidden_{index}", head.hidden_kernel_init)
        inputs = nn.relu(layer(inputs))
    return inputs


def half_squared_error(
    output: Float[Array, "*#axes"], target: Float[Array, "*#axes"]
) -> Float[Array, "*axes"]:
    """Return ``(output - target)^2 / 2``."""
    return 0.5 * (output - target) ** 2


def check_hidden_dims(field: str, hidden_dims: Any) -> None:
    """Raise ``ValueError`` if ``hidden_dims`` is not a tuple of integers of at least 1."""
    if not isinstance(hidden_dims, tuple):
        raise ValueError(f"{field} must be a tuple of integers, got {hidden_dims!r}")
    for index, hidden_dim in enumerate(hidden_dims):
        check_positive(f"{field}[{index}]", hidden_dim)


def takes(head: Any, name: str) -> bool:
    """Return whether a head takes an argument; a horde takes those of its main head."""
    if hasattr(head, "demons"):
        return takes(head.head, name)
    call = head.__call__ if isinstance(head, nn.Module) else head
    try:
        return name in inspect.signature(call).parameters
    except (TypeError, ValueError):  # Some callables of C have no signature.
        return False


def apply_head(
    head: Any,
    features: Float[Array, "batch time features"],
    candidate_action: Shaped[Array, "batch time ..."] | None = None,
    action_mask: Bool[Array, "batch time actions"] | None = None,
) -> Any:
    """Call a head with its features and what else it takes.

    Raises:
        ValueError: If something is given that the head does not take.
    """
    inputs = {"candidate_action": candidate_action, "action_mask": action_mask}
    inputs = {name: values for name, values in inputs.items() if values is not None}
    for name in inputs:
        if not takes(head, name):
            main = getattr(head, "head", head) if hasattr(head, "demons") else head
            kind = getattr(main, "__name__", type(main).__name__)
            raise ValueError(f"the head {kind} takes no {name}, which was given")
    return head(features, **inputs)
