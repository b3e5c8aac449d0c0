"""RWKV-7: time mixing, a generalised delta rule, and channel mixing.

Time mixing, with ``before`` the layer's input one step before, 0 at an episode's first step, and
W, low-rank maps and r_k learnt::

    x_n = x + (before - x) mix_n                          for n in r, w, k, v, a, g
    r, k, v = W_r x_r, W_k x_k, W_v x_v
    log w = -exp(-1/2) sigmoid(w0 + tanh(x_w w1) w2)      (decays from 0.545 to 1)
    a = sigmoid(a0 + x_a a1 a2)
    g = sigmoid(x_g g1) g2
    v = v + (v_first - v) sigmoid(v0 + x_v v1 v2)         (not in the first layer)
    z = k k_k, to length 1 for each head
    k = k (1 + (a - 1) k_a)
    S' = diag(w) S - (z a) (S^T z)^T + k v^T              (what is erased is read before the decay)
    o = GroupNorm(S'^T r) + (sum over the head of r k r_k) v
    y = W_out (o g)

Channel mixing: y = W_v relu(W_k (x + (before - x) mix))^2.

Source: Peng et al. 2025, "RWKV-7 Goose with Expressive Dynamic State Evolution", arXiv 2503.14456.
"""

import math
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jaxtyping import Array, Bool, Float

from memorax import ops
from memorax.networks.initializers import Initializer
from memorax.networks.layers import head_wise_norm, linear, token_shift
from memorax.networks.sequence_models.base import Carry
from memorax.networks.sequence_models.memoroid import MemoroidCell
from memorax.ops.delta_rule import IMPLEMENTATIONS
from memorax.ops.implementation import Implementation
from memorax.validation import check_between, check_positive

MIXES = {"r": 0.2, "w": 0.9, "k": 0.7, "v": 0.7, "a": 0.9, "g": 0.2}
"""What is mixed with the previous step, and the power of the ramp that initialises each mixture."""

STRONGEST_LOG_DECAY = -math.exp(-0.5)


@dataclass(frozen=True)
class RWKV7Config:
    """Sizes of an ``RWKV7Cell``.

    Attributes:
        features: Width of the layer, its inputs and outputs.
        num_heads: Number of heads.
        head_dim: Width of a head's keys and values; ``None``: ``features / num_heads``.
        decay_rank: Rank of the map to the decays.
        erase_rank: Rank of the map to a, how much is erased.
        value_rank: Rank of the map to the share of the first layer's values.
        gate_rank: Rank of the map to the gate g.
        norm_epsilon: Of the norm over each head's outputs, the authors' 64e-5.

    Raises:
        ValueError: If a field is out of its range, a head has a single channel, or ``num_heads``
            does not divide ``features`` where ``head_dim`` is ``None``.

    Examples:
        >>> config = RWKV7Config(features=16, head_dim=8)
        >>> RWKV7Config(features=0, head_dim=8)
        Traceback (most recent call last):
        ValueError: RWKV7Config.features must be an integer of at least 1, got 0
    """

    features: int
    num_heads: int = 4
    head_dim: int | None = None
    decay_rank: int = 16
    erase_rank: int = 16
    value_rank: int = 16
    gate_rank: int = 16
    norm_epsilon: float = 64e-5

    def __post_init__(self):
        """Check the fields."""
        ranks = "decay_rank", "erase_rank", "value_rank", "gate_rank"
        for name in ("features", "num_heads", *ranks):
            check_positive(f"RWKV7Config.{name}", getattr(self, name))
        if self.head_dim is not None:
            check_positive("RWKV7Config.head_dim", self.head_dim)
        elif self.features % self.num_heads:
            raise ValueError(
                "RWKV7Config.features must be divisible by num_heads where head_dim is None, got "
                f"features={self.features}, num_heads={self.num_heads}"
            )
        if (self.head_dim or self.features // self.num_heads) < 2:
            raise ValueError(
                "RWKV7Config.head_dim must be at least 2, for the norm over a head of a single "
                f"channel is always 0, got features={self.features}, num_heads={self.num_heads}, "
                f"head_dim={self.head_dim}"
            )
        check_between("RWKV7Config.norm_epsilon", self.norm_epsilon, 0.0)


class RWKV7Cell(MemoroidCell):
    """The time mixing of RWKV-7, to be run by ``Memoroid``.

    The carry is the state S of each head, ``(batch, heads, head_dim, head_dim)``, keys before
    values, and the last input, ``(batch, config.features)``; inputs of another width are first
    mapped to this one.

    Attributes:
        config: Sizes.
        dtype: Of the projections; ``None``: of inputs and parameters. The recurrence is computed
            in ``param_dtype``.
        param_dtype: Of parameters and carry.

    Examples:
        >>> torso = Memoroid(RWKV7Cell(RWKV7Config(features=16)))
        >>> (carry, outputs), params = jax.eval_shape(torso.init_with_output, key, inputs)
        >>> [leaf.shape for leaf in jax.tree.leaves(carry)]
        [(2, 4, 4, 4), (2, 16)]
        >>> outputs.shape
        (2, 5, 16)
    """

    implementations = IMPLEMENTATIONS

    config: RWKV7Config
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __call__(
        self,
        inputs: Float[Array, "batch time features"],
        done: Bool[Array, "batch time"],
        carry: Carry,
        implementation: Implementation,
        chunk_size: int | None,
    ) -> tuple[Carry, Float[Array, "batch time features_out"]]:
        """Read a chunk of a sequence; see ``MemoroidCell``."""
        return self.mix(inputs, done, carry, implementation, chunk_size)[:2]

    @nn.compact
    def mix(
        self,
        inputs: Float[Array, "batch time features"],
        done: Bool[Array, "batch time"],
        carry: Carry,
        implementation: Implementation = "auto",
        chunk_size: int | None = None,
        first_value: Float[Array, "batch time channels"] | None = None,
    ) -> tuple[Carry, Float[Array, "batch time features_out"], Float[Array, "batch time channels"]]:
        """Read a chunk of a sequence as a layer among others; also return v.

        Args:
            inputs: As ``__call__``.
            done: As ``__call__``.
            carry: As ``__call__``.
            implementation: As ``__call__``.
            chunk_size: As ``__call__``.
            first_value: v of the first layer; ``None`` in the first layer itself.

        Returns:
            The carry, the outputs, and v, which the layers after the first are to be given.
        """
        config, dtype = self.config, self.param_dtype
        state, last = carry
        channels = config.num_heads * self._head_dim()
        if inputs.shape[-1] != config.features:
            # The carry has to be known before the inputs are.
            inputs = linear(self, config.features, "input")(inputs)
        last, before = token_shift(inputs, done, last)

        def mixed(name):
            mix = self.param(f"mix_{name}", ramp(MIXES[name]), inputs.shape[-1:], dtype)
            x, other, mix = promote_dtype(inputs, before, mix, dtype=dtype)
            return x + (other - x) * mix

        x_r, x_w, x_k, x_v, x_a, x_g = (mixed(name) for name in MIXES)
        r = linear(self, channels, "receptance")(x_r).astype(dtype)
        k = linear(self, channels, "key")(x_k).astype(dtype)
        v = linear(self, channels, "value")(x_v).astype(dtype)

        def low_rank(name, x, rank, between, bias_init=None):
            low = between(linear(self, rank, f"{name}_down")(x).astype(dtype))
            use_bias = bias_init is not None
            up = linear(
                self, channels, f"{name}_up", use_bias, bias_init=bias_init or nn.initializers.zeros
            )
            return up(low).astype(dtype)

        log_w = low_rank("decay", x_w, config.decay_rank, jnp.tanh, draw_decay_bias)
        log_w = STRONGEST_LOG_DECAY * jax.nn.sigmoid(log_w)
        zeros, ones = nn.initializers.zeros, nn.initializers.ones
        a = jax.nn.sigmoid(low_rank("erase", x_a, config.erase_rank, _same, zeros))
        g = low_rank("gate", x_g, config.gate_rank, jax.nn.sigmoid)
        own_value = v
        if first_value is not None:
            share = low_rank("share", x_v, config.value_rank, _same, ones)
            v = v + (first_value - v) * jax.nn.sigmoid(share)

        per_channel = (channels,)
        k_k = self.param("k_k", nn.initializers.constant(0.85), per_channel, dtype)
        k_a = self.param("k_a", ones, per_channel, dtype)
        r_k = self.param("r_k", zeros, (config.num_heads, self._head_dim()), dtype)
        erased = self._heads(k * k_k)
        # Of length 1; zero stays zero, with a slope that is finite.
        squares = (erased * erased).sum(-1, keepdims=True)
        erased *= jax.lax.rsqrt(jnp.maximum(squares, 1e-24))
        k = k * (1 + (a - 1) * k_a)
        r, k, v, log_w, a = (self._heads(part) for part in (r, k, v, log_w, a))
        state, o = ops.generalized_delta_rule(
            r,
            k,
            v,
            # The op reads after the decay, which is 0.545 at least.
            erased * jnp.exp(-log_w),
            erased * a,
            log_w,
            done,
            state,
            implementation,
            chunk_size,
        )
        scale = self.param("norm_scale", ones, per_channel, dtype)
        bias = self.param("norm_bias", zeros, per_channel, dtype)
        o = head_wise_norm(o, config.norm_epsilon) * self._heads(scale) + self._heads(bias)
        o += (r * k * r_k).sum(-1, keepdims=True) * v
        y = linear(self, config.features, "output")(o.reshape(g.shape) * g)
        return (state, last), y, own_value

    def _head_dim(self):
        return self.config.head_dim or self.config.features // self.config.num_heads

    def _heads(self, values):
        return values.reshape(*values.shape[:-1], self.config.num_heads, -1)

    @nn.nowrap
    def initialize_carry(self, key: Array, input_shape: tuple[int, ...]) -> Carry:
        """Return an empty memory and a last input of zeros."""
        heads = self.config.num_heads
        head_dim = self.config.head_dim or self.config.features // heads
        return (
            jnp.zeros((input_shape[0], heads, head_dim, head_dim), self.param_dtype),
            jnp.zeros((input_shape[0], self.config.features), self.param_dtype),
        )


class RWKV7ChannelMixing(nn.Module):
    """The feed-forward network of RWKV-7, which also sees the step before.

    Attributes:
        features: Width of the outputs.
        expansion_factor: Width of the hidden layer relative to ``features``, the authors' 4.
        dtype: Of the products; ``None``: of inputs and parameters.
        param_dtype: Of parameters.
    """

    features: int
    expansion_factor: int | float = 4
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        inputs: Float[Array, "batch time features"],
        done: Bool[Array, "batch time"],
        last: Float[Array, "batch features"],
    ) -> tuple[Float[Array, "batch features"], Float[Array, "batch time features_out"]]:
        """Return the last input, for the next call, and the outputs."""
        last, before = token_shift(inputs, done, last)
        mix = self.param("mix", ramp(4.0), inputs.shape[-1:], self.param_dtype)
        x, before, mix = promote_dtype(inputs, before, mix, dtype=self.param_dtype)
        hidden_dim = round(self.features * self.expansion_factor)
        hidden = linear(self, hidden_dim, "key")(x + (before - x) * mix).astype(self.param_dtype)
        return last, linear(self, self.features, "value")(jnp.square(nn.relu(hidden)))


def ramp(power: float) -> Initializer:
    """Return 1 - (channel / channels)^power: the first channels begin with the step before."""

    def draw(key, shape, dtype=jnp.float32):
        del key
        return (1 - (jnp.arange(shape[-1]) / shape[-1]) ** power).astype(dtype)

    return draw


def draw_decay_bias(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    """Return w0 from -6.5 to -1.5: states that last from about a thousand steps down to nine."""
    del key
    place = jnp.arange(shape[-1]) / max(shape[-1] - 1, 1)
    return (-6.5 + 5.0 * place**0.85).astype(dtype)


def _same(values):
    return values
