"""Connections around a model that let its inputs through."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from memorax.networks.blocks.base import Block
from memorax.networks.layers import linear
from memorax.networks.sequence_models.base import Carry, apply_sequence_model
from memorax.validation import check_between, unknown_name


class Residual(Block):
    """Add a model's outputs to its inputs: x + f(x).

    Attributes:
        module: Any sequence model or plain module whose outputs are as wide as its inputs.

    Raises:
        ValueError: At construction, if ``module`` is neither a module nor callable; at the call,
            if its outputs are not as wide as its inputs.

    Source: He et al. 2016, "Identity Mappings in Deep Residual Networks", arXiv 1603.05027.

    Examples:
        >>> torso = Residual(PreNorm(RNN(nn.GRUCell(8))))
        >>> (carry, outputs), params = jax.eval_shape(torso.init_with_output, key, inputs)
        >>> [leaf.shape for leaf in jax.tree.leaves(carry)]
        [(2, 8)]
        >>> outputs.shape
        (2, 5, 8)
    """

    module: Any

    def read(
        self,
        inputs: Float[Array, "batch time features"],
        done: Bool[Array, "batch time"],
        carry: Carry,
    ) -> tuple[Carry, Float[Array, "batch time features_out"]]:
        """Read a chunk of a sequence; see ``Block``."""
        carry, outputs = apply_sequence_model(self.module, inputs, done, carry)
        _check_same_shape(self, inputs, outputs)
        return carry, inputs + outputs


class GatedResidual(Block):
    """Combine a model's outputs and inputs by a gate, as GTrXL does.

    With x the inputs and y = ReLU(f(x))::

        gru:           r = sigmoid(W_r y + U_r x)     z = sigmoid(W_z y + U_z x - b_g)
                       h = tanh(W_g y + U_g (r x))    (1 - z) x + z h
        input:         sigmoid(W_g x) x + y
        output:        x + sigmoid(W_g x - b_g) y
        highway:       c x + (1 - c) y                c = sigmoid(W_g x + b_g)
        sigmoid_tanh:  x + sigmoid(W_g y - b_g) tanh(U_g y)

    Around ``PreNorm`` this is the paper's whole step, the ReLU included.

    Attributes:
        module: Any sequence model or plain module whose outputs are as wide as its inputs.
        gate: Which of the gates; ``"gru"`` is the paper's best and most robust.
        gate_bias: The value that each b_g begins from. Above 0 the block begins near the
            identity, so that an agent can act on what it sees before it has learned to remember;
            2 is the paper's. ``"input"`` has no bias.
        activation: Applied to f's outputs before the gate, the paper's ReLU.
        dtype: Of the gate's products; ``None``: of inputs and parameters.
        param_dtype: Of the gate's parameters.

    Raises:
        ValueError: At construction, if ``module`` is neither a module nor callable, or the gate
            is unknown; at the call, if outputs are not as wide as inputs.

    Source: Parisotto et al. 2020, "Stabilizing Transformers for Reinforcement Learning", arXiv
    1910.06764, section 3.2; linear maps without biases, as there.

    Examples:
        >>> torso = GatedResidual(PreNorm(RNN(nn.GRUCell(8))), gate="highway")
        >>> (carry, outputs), params = jax.eval_shape(torso.init_with_output, key, inputs)
        >>> [leaf.shape for leaf in jax.tree.leaves(carry)]
        [(2, 8)]
        >>> outputs.shape
        (2, 5, 8)
    """

    module: Any
    gate: str = "gru"
    gate_bias: int | float = 2.0
    activation: Callable[[Array], Array] = nn.relu
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        """Check the fields."""
        if self.gate not in GATES:
            raise ValueError(f"GatedResidual.gate: {unknown_name('gate', self.gate, GATES)}")
        check_between("GatedResidual.gate_bias", self.gate_bias, float("-inf"))
        super().__post_init__()

    @nn.compact
    def read(
        self,
        inputs: Float[Array, "batch time features"],
        done: Bool[Array, "batch time"],
        carry: Carry,
    ) -> tuple[Carry, Float[Array, "batch time features_out"]]:
        """Read a chunk of a sequence; see ``Block``."""
        carry, outputs = apply_sequence_model(self.module, inputs, done, carry)
        _check_same_shape(self, inputs, outputs)
        return carry, GATES[self.gate](self, inputs, self.activation(outputs))

    def W(self, part: str, values: Array) -> Array:
        """Map by the matrix W of a part."""
        return linear(self, values.shape[-1], f"W_{part}")(values)

    def U(self, part: str, values: Array) -> Array:
        """Map by the matrix U of a part."""
        return linear(self, values.shape[-1], f"U_{part}")(values)

    def b_g(self, values: Array) -> Array:
        """Return the bias of a gate computed from ``values``."""
        initializer = nn.initializers.constant(self.gate_bias)
        return self.param("b_g", initializer, values.shape[-1:], self.param_dtype)


def _gru(block, x, y):
    r = nn.sigmoid(block.W("r", y) + block.U("r", x))
    z = nn.sigmoid(block.W("z", y) + block.U("z", x) - block.b_g(x))
    h = nn.tanh(block.W("g", y) + block.U("g", r * x))
    return (1 - z) * x + z * h


def _input(block, x, y):
    return nn.sigmoid(block.W("g", x)) * x + y


def _output(block, x, y):
    return x + nn.sigmoid(block.W("g", x) - block.b_g(x)) * y


def _highway(block, x, y):
    c = nn.sigmoid(block.W("g", x) + block.b_g(x))
    return c * x + (1 - c) * y


def _sigmoid_tanh(block, x, y):
    return x + nn.sigmoid(block.W("g", y) - block.b_g(y)) * nn.tanh(block.U("g", y))


GATES = {
    "gru": _gru,
    "input": _input,
    "output": _output,
    "highway": _highway,
    "sigmoid_tanh": _sigmoid_tanh,
}
"""The function of inputs x and outputs y that each gate computes with its parameters."""


def _check_same_shape(block, inputs, outputs):
    if inputs.shape != outputs.shape:
        raise ValueError(
            f"{type(block).__name__} needs outputs of the inputs' shape, got inputs of shape "
            f"{inputs.shape} and outputs of shape {outputs.shape} from "
            f"{type(block.module).__name__}: put a Projection(features={outputs.shape[-1]}) before"
        )
