"""Sequence models with one fault each, and the sound one that they are made from.

The laws have to reject each for the law that its fault breaks; a law that none of them can break
would be no test.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from memorax.networks import SequenceModel
from memorax.networks.sequence_models.base import checked_carry, checked_inputs

WINDOW, FEATURES = 3, 4


class Sound(SequenceModel):
    """A causal convolution, a decaying sum and a count of the episode's steps, one after the other.

    Its carry is the convolution's last inputs, the sum and the count. Each broken model overrides
    the one method that holds its fault.
    """

    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, inputs, done=None, initial_carry=None):
        inputs, done = checked_inputs(self, inputs, done)
        carry = checked_carry(self, initial_carry, inputs)
        dense = nn.Dense(FEATURES, dtype=self.dtype, param_dtype=self.param_dtype)
        kernel = self.param("kernel", nn.initializers.ones, (WINDOW, FEATURES), self.param_dtype)
        projected = dense(self.look(inputs)).astype(self.param_dtype)
        fresh = self.initialize_carry(None, (inputs.shape[0], inputs.shape[-1]))

        def step(carry, at_time):
            x, done = at_time
            carry = self.forget(carry, fresh, done)
            window, total, count = carry
            window = jnp.concatenate([window[:, 1:], x[:, None]], axis=1)
            total = 0.9 * total + self.mix((window * kernel).sum(axis=1))
            count = count + 1
            outputs = self.squash(total) + jnp.sin(count)[:, None]
            return self.forget_after((window, total, count), fresh, done), outputs

        carry = self.begin(carry)
        time_major = jnp.swapaxes(projected, 0, 1), done.T
        carry, outputs = jax.lax.scan(step, carry, time_major)
        return self.end(carry), jnp.swapaxes(outputs, 0, 1)

    @nn.nowrap
    def initialize_carry(self, key, input_shape):
        batch = input_shape[0]
        return (
            jnp.zeros((batch, WINDOW, FEATURES), self.param_dtype),
            jnp.zeros((batch, FEATURES), self.param_dtype),
            jnp.zeros(batch, self.param_dtype),
        )

    def begin(self, carry):
        return carry

    def end(self, carry):
        return carry

    def look(self, inputs):
        return inputs

    def mix(self, values):
        return values

    def squash(self, total):
        return jnp.tanh(total)

    def forget(self, carry, fresh, done):
        return jax.tree.map(lambda new, old: jnp.where(_align(done, old), new, old), fresh, carry)

    def forget_after(self, carry, fresh, done):
        return carry


def _align(done, leaf):
    return done.reshape(done.shape + (1,) * (leaf.ndim - 1))


class LosesWindow(Sound):
    """The convolution's window is lost between calls."""

    def begin(self, carry):
        window, total, count = carry
        return jnp.zeros_like(window), total, count


class RestartsCount(Sound):
    """The count restarts with every call."""

    def begin(self, carry):
        window, total, count = carry
        return window, total, jnp.zeros_like(count)


class HandsOnAnotherDtype(Sound):
    """The carry comes back in another dtype."""

    def end(self, carry):
        window, total, count = carry
        return window, total.astype(jnp.float16), count


class ForgetsTooLate(Sound):
    """The reset comes after the step that it belongs before."""

    def forget(self, carry, fresh, done):
        return carry

    def forget_after(self, carry, fresh, done):
        return super().forget(carry, fresh, done)


class ForgetsByMultiplying(Sound):
    """The reset multiplies by zero, which a NaN survives."""

    def forget(self, carry, fresh, done):
        return jax.tree.map(lambda old: old * _align(1 - done.astype(old.dtype), old), carry)


class LooksAhead(Sound):
    """Each step sees the input after it."""

    def look(self, inputs):
        return inputs + jnp.concatenate([inputs[:, 1:], inputs[:, -1:]], axis=1)


class MixesRows(Sound):
    """Each row is centred by the mean over the batch."""

    def mix(self, values):
        return values - values.mean(axis=0)


class Overflows(Sound):
    """The output's softmax is not stabilised."""

    def squash(self, total):
        return jnp.exp(total) / jnp.exp(total).sum(axis=-1, keepdims=True)


class DrawsByItself(Sound):
    """Outputs are random, though no key is given."""

    def squash(self, total):
        return jnp.tanh(total) + np.random.default_rng().normal()


class AnotherDecay(Sound):
    """Pretends to compute what ``Sound`` does, but remembers a little longer."""

    def mix(self, values):
        return 1.001 * values
