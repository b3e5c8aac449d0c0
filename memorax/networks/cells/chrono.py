"""Flax's GRU and LSTM, with gates that begin with memories of a given length.

The equations and the parameters' names are those of ``flax.linen.GRUCell`` and ``LSTMCell``; only
the first biases differ. With u spread evenly over the units from 1 to ``memory_horizon - 1``::

    GRU:   b_z = log(u)                     z keeps the state
    LSTM:  b_f = log(u),  b_i = -b_f

Source: Tallec and Ollivier 2018, "Can recurrent neural networks warp time?", arXiv 1804.11188,
section 2, equations 15 and 16.
"""

from typing import ClassVar

import flax.linen as nn
from jaxtyping import Array, Float

from memorax.networks.initializers import check_memory_horizon, chrono_bias


class ChronoGRUCell(nn.GRUCell):
    """A GRU cell whose units begin with memories of 1 to ``memory_horizon`` steps.

    Attributes:
        memory_horizon: Steps that the longest memory lasts at first, at least 2.

    Raises:
        ValueError: If ``memory_horizon`` is below 2.

    Examples:
        >>> torso = RNN(ChronoGRUCell(features=16, memory_horizon=200))
        >>> (carry, outputs), params = jax.eval_shape(torso.init_with_output, key, inputs)
        >>> [leaf.shape for leaf in jax.tree.leaves(carry)]
        [(2, 16)]
        >>> outputs.shape
        (2, 5, 16)
    """

    memory_horizon: int | float = 100

    same_equations_as: ClassVar[type] = nn.GRUCell

    def __post_init__(self):
        """Check the fields."""
        check_memory_horizon("ChronoGRUCell", self.memory_horizon)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, carry: Float[Array, "*batch features"], inputs: Float[Array, "*batch features_in"]
    ) -> tuple[Float[Array, "*batch features"], Float[Array, "*batch features"]]:
        """Read one input; return the state after it, twice."""
        h = carry

        def from_input(name, bias_init=self.bias_init):
            return _dense(self, name, self.kernel_init, bias_init)(inputs)

        def from_state(name, use_bias=False):
            init = self.recurrent_kernel_init
            return _dense(self, name, init, self.bias_init, use_bias)(h)

        r = self.gate_fn(from_input("ir") + from_state("hr"))
        z = self.gate_fn(from_input("iz", chrono_bias(self.memory_horizon)) + from_state("hz"))
        n = self.activation_fn(from_input("in") + r * from_state("hn", use_bias=True))
        h = (1.0 - z) * n + z * h
        return h, h


class ChronoLSTMCell(nn.LSTMCell):
    """An LSTM cell whose units begin with memories of 1 to ``memory_horizon`` steps.

    Attributes:
        memory_horizon: Steps that the longest memory lasts at first, at least 2.

    Raises:
        ValueError: If ``memory_horizon`` is below 2.

    Examples:
        >>> torso = RNN(ChronoLSTMCell(features=16, memory_horizon=200))
        >>> (carry, outputs), params = jax.eval_shape(torso.init_with_output, key, inputs)
        >>> [leaf.shape for leaf in jax.tree.leaves(carry)]
        [(2, 16), (2, 16)]
        >>> outputs.shape
        (2, 5, 16)
    """

    memory_horizon: int | float = 100

    same_equations_as: ClassVar[type] = nn.LSTMCell

    def __post_init__(self):
        """Check the fields."""
        check_memory_horizon("ChronoLSTMCell", self.memory_horizon)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        carry: tuple[Float[Array, "*batch features"], Float[Array, "*batch features"]],
        inputs: Float[Array, "*batch features_in"],
    ) -> tuple[
        tuple[Float[Array, "*batch features"], Float[Array, "*batch features"]],
        Float[Array, "*batch features"],
    ]:
        """Read one input; return the cell and hidden state after it, and the latter again."""
        c, h = carry

        def gate(name, bias_init=self.bias_init):
            from_input = _dense(self, f"i{name}", self.kernel_init, use_bias=False)(inputs)
            return from_input + _dense(self, f"h{name}", self.recurrent_kernel_init, bias_init)(h)

        i = self.gate_fn(gate("i", chrono_bias(self.memory_horizon, sign=-1)))
        f = self.gate_fn(gate("f", chrono_bias(self.memory_horizon)))
        g = self.activation_fn(gate("g"))
        o = self.gate_fn(gate("o"))
        c = f * c + i * g
        h = o * self.activation_fn(c)
        return (c, h), h


def _dense(cell, name, kernel_init, bias_init=nn.initializers.zeros, use_bias=True):
    return nn.Dense(
        cell.features,
        use_bias=use_bias,
        dtype=cell.dtype,
        param_dtype=cell.param_dtype,
        kernel_init=kernel_init,
        bias_init=bias_init,
        name=name,
    )
