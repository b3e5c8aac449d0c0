"""Mamba-3, with a single input and output for each head.

For each head, with B and C shared by the heads of a group::

    [z, v, B, C, dt, A, trap, angles] = W_in u
    B, C = RMSNorm(B) + B_bias, RMSNorm(C) + C_bias                  (biases a head)
    dt = softplus(dt + dt_bias)        log alpha = -max(f(A), 1e-4) dt        lambda = sigmoid(trap)
    angle' = angle + dt pi tanh(angles)
    q, k = rotate(C, angle'), rotate(B, angle')
    S' = alpha S + (1 - lambda) dt alpha k_before v_before^T + lambda dt k v^T
    y  = S'^T q + D v
    out = W_out (y silu(z))                         (with use_norm RMSNorm(y), over a head, instead)

f is softplus in the release of the authors, later 1 + A for A above 0 and 1 / (1 - A) below. What
was one step before is zero at an episode's first step.

Source: Lahoti et al. 2026, "Mamba-3", arXiv 2603.15569.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from memorax import ops
from memorax.networks.initializers import inverse_softplus_of_log_uniform
from memorax.networks.layers import head_wise_rms_norm, linear
from memorax.networks.sequence_models.base import Carry
from memorax.networks.sequence_models.memoroid import MemoroidCell
from memorax.ops.implementation import Implementation
from memorax.validation import check_between, check_positive, unknown_name

LEAST_RATE = 1e-4
"""Of a state's decay, as in the authors' code."""


def rational(values: Array) -> Array:
    """Return 1 + u for u above 0, else 1 / (1 - u): like softplus, without an exponential."""
    # Each branch only sees what it is for, so that the other's slope stays finite.
    return jnp.where(values >= 0, 1 + values, 1 / (1 - jnp.minimum(values, 0)))


ACTIVATIONS = {"softplus": jax.nn.softplus, "rational": rational}


@dataclass(frozen=True)
class Mamba3Config:
    """Sizes and initialisation of a ``Mamba3Cell``.

    Attributes:
        features: Width of the outputs.
        num_heads: Number of heads, each with its own decay.
        head_dim: Width of a head; with ``num_heads`` of 8 twice 64 features, the paper's ratio.
        state_dim: Width of B and C.
        num_groups: Number of groups of heads that share B and C; divides ``num_heads``.
        rotated_fraction: Share of B and C that is rotated, 0.5 or 1.
        decay_activation: f, which makes A a decay: ``"softplus"`` or ``"rational"``.
        use_norm: Whether each head's outputs are normalised before the gate.
        min_step: Least dt at first, drawn log-uniformly up to ``max_step``, as the authors do.
        max_step: Largest dt at first.
        norm_epsilon: Of all norms.

    Raises:
        ValueError: If a field is out of its range, or ``num_groups`` does not divide the heads.

    Examples:
        >>> config = Mamba3Config(features=16, use_norm=True)
        >>> Mamba3Config(features=16, rotated_fraction=0.3)
        Traceback (most recent call last):
        ValueError: Mamba3Config.rotated_fraction must be 0.5 or 1, got 0.3
    """

    features: int
    num_heads: int = 8
    head_dim: int = 16
    state_dim: int = 16
    num_groups: int = 1
    rotated_fraction: float = 0.5
    decay_activation: Literal["softplus", "rational"] = "softplus"
    use_norm: bool = False
    min_step: float = 0.001
    max_step: float = 0.1
    norm_epsilon: float = 1e-5

    def __post_init__(self):
        """Check the fields."""
        for name in ("features", "num_heads", "head_dim", "num_groups"):
            check_positive(f"Mamba3Config.{name}", getattr(self, name))
        check_positive("Mamba3Config.state_dim", self.state_dim)
        if self.num_heads % self.num_groups:
            raise ValueError(
                "Mamba3Config.num_heads must be divisible by num_groups, got "
                f"num_heads={self.num_heads}, num_groups={self.num_groups}"
            )
        if self.rotated_fraction not in (0.5, 1.0):
            raise ValueError(
                f"Mamba3Config.rotated_fraction must be 0.5 or 1, got {self.rotated_fraction!r}"
            )
        if self.num_angles < 1:
            raise ValueError(
                "Mamba3Config.state_dim must leave a pair to rotate, got "
                f"state_dim={self.state_dim}, rotated_fraction={self.rotated_fraction}"
            )
        if self.decay_activation not in ACTIVATIONS:
            words = unknown_name("activation", self.decay_activation, ACTIVATIONS)
            raise ValueError(f"Mamba3Config.decay_activation: {words}")
        check_between("Mamba3Config.min_step", self.min_step, 1e-4)
        check_between("Mamba3Config.max_step", self.max_step, self.min_step)
        check_between("Mamba3Config.norm_epsilon", self.norm_epsilon, 0.0)

    @property
    def num_angles(self) -> int:
        """Pairs of B and C that are rotated."""
        return int(self.state_dim * self.rotated_fraction) // 2


class Mamba3Cell(MemoroidCell):
    """The Mamba-3 mixer, to be run by ``Memoroid``.

    The carry is of each head the angles, ``(batch, heads, angles)``, the state S, ``(batch, heads,
    state_dim, head_dim)``, and k and v of the step before.

    Attributes:
        config: Sizes and initialisation.
        dtype: Of the projections; ``None``: of inputs and parameters. The recurrence is computed
            in ``param_dtype``.
        param_dtype: Of parameters and carry.

    Examples:
        >>> torso = Memoroid(Mamba3Cell(Mamba3Config(features=16)))
        >>> (carry, outputs), params = jax.eval_shape(torso.init_with_output, key, inputs)
        >>> [leaf.shape for leaf in jax.tree.leaves(carry)]
        [(2, 8, 4), (2, 8, 16, 16), (2, 8, 16), (2, 8, 16)]
        >>> outputs.shape
        (2, 5, 16)
    """

    config: Mamba3Config
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        inputs: Float[Array, "batch time features"],
        done: Bool[Array, "batch time"],
        carry: Carry,
        implementation: Implementation,
        chunk_size: int | None,
    ) -> tuple[Carry, Float[Array, "batch time features_out"]]:
        """Read a chunk of a sequence; see ``MemoroidCell``."""
        config, heads = self.config, self.config.num_heads
        angle, state, k_before, v_before = carry
        channels, shared = heads * config.head_dim, config.num_groups * config.state_dim
        sizes = (channels, channels, shared, shared, heads, heads, heads, config.num_angles)
        ends = [sum(sizes[: i + 1]) for i in range(len(sizes) - 1)]
        projected = linear(self, sum(sizes), "in_proj")(inputs).astype(state.dtype)
        z, v, B, C, dt, A, trap, angles = jnp.split(projected, ends, axis=-1)
        v = v.reshape(*inputs.shape[:2], heads, config.head_dim)
        B, C = self._normalised("B", B), self._normalised("C", C)

        draw_steps = inverse_softplus_of_log_uniform(config.min_step, config.max_step)
        dt_bias = self.param("dt_bias", draw_steps, (heads,), self.param_dtype)
        dt = jax.nn.softplus(dt + dt_bias)
        rate = jnp.maximum(ACTIVATIONS[config.decay_activation](A), LEAST_RATE)
        lam = jax.nn.sigmoid(trap)
        turns = dt[..., None] * math.pi * jnp.tanh(angles)[..., None, :]
        angle, angles = ops.running_angle(turns, done, angle)
        q, k = rotate(C, angles), rotate(B, angles)
        D = self.param("D", nn.initializers.ones, (heads,), self.param_dtype)
        carry, y = trapezoid(
            q,
            k,
            v,
            dt,
            -rate * dt,
            lam,
            done,
            (state, k_before, v_before),
            implementation,
            chunk_size,
        )
        y = y + D[:, None] * v
        if config.use_norm:
            shape = heads, config.head_dim
            norm = self.param("norm", nn.initializers.ones, shape, self.param_dtype)
            y = head_wise_rms_norm(y, norm, config.norm_epsilon)
        y = y.reshape(z.shape) * jax.nn.silu(z)
        return (angle, *carry), linear(self, config.features, "out_proj")(y)

    def _normalised(self, name, values):
        """Return B or C of each head: the norm over a group, then the bias of the head."""
        config, ones = self.config, nn.initializers.ones
        norm = self.param(f"{name}_norm", ones, (config.state_dim,), self.param_dtype)
        shape = config.num_heads, config.state_dim
        bias = self.param(f"{name}_bias", ones, shape, self.param_dtype)
        values = values.reshape(*values.shape[:2], config.num_groups, config.state_dim)
        values = head_wise_rms_norm(values, norm, config.norm_epsilon)
        return jnp.repeat(values, config.num_heads // config.num_groups, axis=2) + bias

    @nn.nowrap
    def initialize_carry(self, key: Array, input_shape: tuple[int, ...]) -> Carry:
        """Return angles of zero, an empty memory and nothing before."""
        config = self.config
        row = input_shape[0], config.num_heads
        return tuple(
            jnp.zeros(shape, self.param_dtype)
            for shape in (
                (*row, config.num_angles),
                (*row, config.state_dim, config.head_dim),
                (*row, config.state_dim),
                (*row, config.head_dim),
            )
        )


def rotate(
    values: Float[Array, "batch time heads state_dim"],
    angles: Float[Array, "batch time heads angles"],
) -> Float[Array, "batch time heads state_dim"]:
    """Turn neighbouring pairs of numbers by the angles; pairs beyond their number stay."""
    pairs, rest = jnp.split(values, [2 * angles.shape[-1]], axis=-1)
    pairs = pairs.reshape(*angles.shape, 2)
    a, b = pairs[..., 0], pairs[..., 1]
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    turned = jnp.stack([a * cos - b * sin, a * sin + b * cos], axis=-1)
    return jnp.concatenate([turned.reshape(*values.shape[:-1], -1), rest], axis=-1)


def trapezoid(
    q: Float[Array, "batch time heads state_dim"],
    k: Float[Array, "batch time heads state_dim"],
    v: Float[Array, "batch time heads head_dim"],
    dt: Float[Array, "batch time heads"],
    log_alpha: Float[Array, "batch time heads"],
    lam: Float[Array, "batch time heads"],
    done: Bool[Array, "batch time"],
    carry: Carry,
    implementation: Implementation,
    chunk_size: int | None,
) -> tuple[Carry, Float[Array, "batch time heads head_dim"]]:
    """Run Mamba-3's recurrence, in which a step's k and v enter half at once and half a step later.

    Written with R' = S' - lambda dt k v^T, it adds one outer product a step, of what was before::

        R' = alpha R + alpha (lambda_before dt_before + (1 - lambda) dt) k_before v_before^T
    """
    state, k_before, v_before = carry

    def before(first, values):
        """Return what was one step before; masked before any product, for it may be NaN."""
        values = jnp.concatenate([first[:, None], values[:, :-1]], axis=1)
        return jnp.where(done.reshape(done.shape + (1,) * (values.ndim - 2)), 0, values)

    entered = lam * dt
    # The state of the carry already includes what entered at its last step.
    entered_before = before(jnp.zeros_like(dt[:, 0]), entered)
    weight = jnp.exp(log_alpha) * (entered_before + (1 - lam) * dt)
    keys, values = before(k_before, k), weight[..., None] * before(v_before, v)
    state, y = ops.gated_outer_product(
        q, keys, values, log_alpha, None, done, state, implementation, chunk_size
    )
    y += (entered * (q * k).sum(-1))[..., None] * v
    last = entered[:, -1, :, None, None] * k[:, -1, :, :, None] * v[:, -1, :, None, :]
    return (state + last, k[:, -1], v[:, -1]), y
