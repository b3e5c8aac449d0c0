"""Fast and forgetful memory.

With m traces, each seen in c contexts, all states complex and elementwise::

    v  = (W_v x + b_v) sigmoid(W_i x + b_i)
    S' = S exp(a + i b) + v                     (a for each trace, b for each context)
    z  = W_m [Re S', Im S'] + b_m
    o  = sigmoid(W_o x + b_o)
    y  = LayerNorm(z) o + (W_s x + b_s) (1 - o)

Only decays over one step occur, so nothing depends on how long an episode has run.

Source: Morad et al. 2023, "Reinforcement Learning with Fast and Forgetful Memory",
arXiv 2310.04128, section 4; the gates and the skip as in the authors' PyTorch code.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from memorax import ops
from memorax.networks.layers import head_wise_norm, linear
from memorax.networks.sequence_models.base import Carry
from memorax.networks.sequence_models.memoroid import MemoroidCell
from memorax.ops.implementation import Implementation
from memorax.validation import check_between, check_integer, check_positive

LARGEST_DECAY = math.log(1.7976931348623157e308) / 1024 - 0.01
"""Of a: the authors' bound, with which 1,024 steps of it fit into a double."""


@dataclass(frozen=True)
class FFMConfig:
    """Sizes and initialisation of an ``FFMCell``.

    Attributes:
        features: Width of the outputs, at least 2, as what is remembered is normalised across it.
        memory_size: m, the number of traces; the authors' 32.
        context_size: c, the number of contexts, each with a frequency of its own; the authors' 4.
        min_period: Steps of the fastest context at first.
        max_period: Steps of the slowest context at first, after which the slowest trace keeps
            1 %.
        period_spacing: Spacing of the periods in between: ``"linear"`` as the authors', where all
            but the fastest are slow, or ``"logarithmic"``, which also resolves the last few steps.

    Raises:
        ValueError: If a field is out of its range.

    Examples:
        >>> config = FFMConfig(features=16, max_period=100.0)
        >>> FFMConfig(features=16, period_spacing="log")
        Traceback (most recent call last):
        ValueError: FFMConfig.period_spacing must be one of linear, logarithmic, got 'log'
    """

    features: int
    memory_size: int = 32
    context_size: int = 4
    min_period: float = 1.0
    max_period: float = 1024.0
    period_spacing: Literal["linear", "logarithmic"] = "linear"

    def __post_init__(self):
        """Check the fields."""
        for name in ("memory_size", "context_size"):
            check_positive(f"FFMConfig.{name}", getattr(self, name))
        check_integer("FFMConfig.features", self.features, 2)
        check_between("FFMConfig.min_period", self.min_period, 1e-6)
        check_between("FFMConfig.max_period", self.max_period, self.min_period)
        spacings = get_args(FFMConfig.__annotations__["period_spacing"])
        if self.period_spacing not in spacings:
            raise ValueError(
                f"FFMConfig.period_spacing must be one of {', '.join(spacings)}, got "
                f"{self.period_spacing!r}"
            )


class FFMCell(MemoroidCell):
    """A fast and forgetful memory, to be run by ``Memoroid``.

    The carry is the pair (real, imaginary) of S.

    Attributes:
        config: Sizes and initialisation.
        dtype: Of the products; ``None``: of inputs and parameters. The recurrence is computed in
            ``param_dtype``.
        param_dtype: Of parameters and carry.

    Examples:
        >>> torso = Memoroid(FFMCell(FFMConfig(features=16, max_period=100.0)))
        >>> (carry, outputs), params = jax.eval_shape(torso.init_with_output, key, inputs)
        >>> [leaf.shape for leaf in jax.tree.leaves(carry)]
        [(2, 32, 4), (2, 32, 4)]
        >>> outputs.shape
        (2, 5, 16)
    """

    config: FFMConfig
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
        config = self.config

        a = self.param("a", lambda _: self._first_decays())
        b = self.param("b", lambda _: self._first_frequencies())
        value = linear(self, config.memory_size, "value", use_bias=True)(inputs)
        input_gate = jax.nn.sigmoid(
            linear(self, config.memory_size, "input_gate", use_bias=True)(inputs)
        )
        decay = jax.lax.complex(*_decay(a, b))
        real, imaginary = carry
        state, states = ops.linear_recurrence(
            decay,
            (value * input_gate).astype(real.dtype)[..., None],
            done,
            jax.lax.complex(real, imaginary),
            implementation,
            chunk_size=chunk_size,
        )
        flat = (*inputs.shape[:2], config.memory_size * config.context_size)
        parts = jnp.concatenate([states.real.reshape(flat), states.imag.reshape(flat)], axis=-1)
        z = linear(self, config.features, "mix", use_bias=True)(parts).astype(real.dtype)
        output_gate = jax.nn.sigmoid(
            linear(self, config.features, "output_gate", use_bias=True)(inputs)
        )
        skip = linear(self, config.features, "skip", use_bias=True)(inputs)
        outputs = head_wise_norm(z, 1e-5) * output_gate + skip * (1 - output_gate)
        return (state.real, state.imag), outputs

    def _first_decays(self):
        slowest = min(-1e-6, math.log(0.01) / self.config.max_period)
        return jnp.linspace(
            -LARGEST_DECAY + 0.01, slowest, self.config.memory_size, dtype=self.param_dtype
        )

    def _first_frequencies(self):
        spaced = jnp.linspace if self.config.period_spacing == "linear" else jnp.geomspace
        periods = spaced(
            self.config.min_period,
            self.config.max_period,
            self.config.context_size,
            dtype=self.param_dtype,
        )
        return 2 * math.pi / periods

    @nn.nowrap
    def unit_parameters(self, params: PyTree) -> PyTree:
        """Return what each number of the state depends on, with last axes (traces, contexts).

        A trace's kernels are copied for each context, since contexts forget them differently.
        """
        real, imaginary = _decay(params["a"], params["b"])

        def for_each_context(leaf):
            return jnp.broadcast_to(leaf[..., None], (*leaf.shape, self.config.context_size))

        layers = jax.tree.map(for_each_context, (params["value"], params["input_gate"]))
        return real, imaginary, *layers

    @nn.nowrap
    def unit_step(
        self, parameters: PyTree, state: Carry, inputs: Float[Array, " features"]
    ) -> Carry:
        """Return the state after an input, as ``__call__`` does, for one row."""
        decay_real, decay_imag, *layers = parameters
        value, gate = (
            jnp.tensordot(inputs, layer["kernel"], axes=1) + layer["bias"] for layer in layers
        )
        real, imaginary = state
        return (
            decay_real * real - decay_imag * imaginary + value * jax.nn.sigmoid(gate),
            decay_real * imaginary + decay_imag * real,
        )

    @nn.nowrap
    def initialize_carry(self, key: Array, input_shape: tuple[int, ...]) -> Carry:
        """Return states of zero."""
        shape = (input_shape[0], self.config.memory_size, self.config.context_size)
        zeros = jnp.zeros(shape, self.param_dtype)
        return zeros, zeros


def _decay(a, b):
    """Return the real and the imaginary part of exp(a + i b), for all traces and contexts."""
    modulus = jnp.exp(jnp.clip(a, -LARGEST_DECAY, -1e-8))[:, None]
    return modulus * jnp.cos(b), modulus * jnp.sin(b)
