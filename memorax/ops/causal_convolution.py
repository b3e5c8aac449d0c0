"""A depthwise convolution over the last few steps, never over an episode's start."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def causal_conv1d(
    inputs: Float[Array, "batch time channels"],
    kernel: Float[Array, "width channels"],
    done: Bool[Array, "batch time"],
    window: Float[Array, "batch steps channels"],
) -> tuple[Float[Array, "batch steps channels"], Float[Array, "batch time channels"]]:
    """Convolve each channel with its own kernel over the steps up to the present one.

    With x zero before the episode's first step::

        y[t] = sum over k of kernel[width - 1 - k] x[t - k]

    Args:
        inputs: x.
        kernel: The weights; the last is that of the present step.
        done: True where an input is the first of a new episode.
        window: The ``width - 1`` inputs before the first, oldest first; zeros if there were none.

    Returns:
        The window for the next call, zero where it would reach into an earlier episode, and y.

    Raises:
        ValueError: If the shapes do not fit.
    """
    width, time = kernel.shape[0], inputs.shape[1]
    expected = (inputs.shape[0], width - 1, inputs.shape[2])
    if kernel.shape[1:] != inputs.shape[2:]:
        raise ValueError(
            f"causal_conv1d: kernel must be (width, channels) = (width, {inputs.shape[2]}), "
            f"got {kernel.shape}"
        )
    if window.shape != expected:
        raise ValueError(f"causal_conv1d: window must have shape {expected}, got {window.shape}")
    if done.shape != inputs.shape[:2]:
        raise ValueError(
            f"causal_conv1d: done must have shape {inputs.shape[:2]}, got {done.shape}"
        )
    earlier = jnp.concatenate([window.astype(inputs.dtype), inputs], axis=1)
    # Where an episode starts, counted in the time of `earlier`.
    starts = jnp.concatenate([jnp.zeros((done.shape[0], width - 1), bool), done], axis=1)

    def kept(lag, begin, length):
        """Return the inputs ``lag`` steps before, zero where an episode has begun since."""
        values = earlier[:, begin - lag : begin - lag + length]
        begun = jnp.zeros(values.shape[:2], bool)
        for since in range(lag):
            begun |= starts[:, begin - since : begin - since + length]
        return jnp.where(begun[..., None], 0, values)

    outputs = sum(kernel[width - 1 - lag] * kept(lag, width - 1, time) for lag in range(width))
    last = width - 1 + time - 1
    lags = [kept(lag, last, 1) for lag in reversed(range(width - 1))]
    next_window = jnp.concatenate(lags, axis=1) if lags else window
    return next_window.astype(window.dtype), jnp.asarray(outputs)
