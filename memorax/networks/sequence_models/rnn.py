"""Recurrent cells, run over time."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jaxtyping import Array, Bool, Float

from memorax.networks.sequence_models.base import (
    Carry,
    SequenceModel,
    checked_carry,
    checked_inputs,
    fresh_carry,
)
from memorax.networks.sequence_models.sensitivities import (
    carry_with_history,
    has_exact_gradient,
)
from memorax.ops import gru, lstm
from memorax.validation import check_positive


class RNN(SequenceModel):
    """Run a recurrent cell step by step, starting again at each episode.

    Any Flax cell over feature vectors works: ``RNN(cell=nn.GRUCell(features=64))``. Parameters are
    those of ``flax.linen.RNN`` around the same cell, so trained weights can be taken over. With
    their usual activations and zero initial carry, ``GRUCell``, ``LSTMCell`` and
    ``OptimizedLSTMCell`` run through ``memorax.ops``, whose own backward pass is faster and
    computes the same; every other cell runs through ``flax.linen.scan``.

    Outputs are at least float32, whatever the cell's dtype.

    A cell whose ``carry_init`` draws random numbers starts each episode from the same draw.

    Attributes:
        cell: The recurrent cell.
        unroll: Steps per iteration of the scan. 1 measured fastest on CPU at nearly every size;
            on an accelerator larger values save launches.

    Raises:
        ValueError: At construction, if ``cell`` is not a cell over feature vectors or ``unroll``
            is not positive; at the call, as ``SequenceModel``.

    Examples:
        >>> torso = RNN(nn.GRUCell(features=16))
        >>> params = torso.init(key, inputs)
        >>> done = jnp.zeros((2, 5), bool).at[0, 3].set(True)  # a new episode in the first row
        >>> carry, outputs = torso.apply(params, inputs, done=done)
        >>> carry, outputs = torso.apply(params, inputs, initial_carry=carry)
    """

    cell: nn.RNNCellBase
    unroll: int = 1

    def __post_init__(self):
        """Check the fields."""
        if not isinstance(self.cell, nn.RNNCellBase):
            raise ValueError(
                "RNN.cell must be an instance of flax.linen.RNNCellBase, such as "
                f"nn.GRUCell(features=64), got {self.cell!r}"
            )
        if self.cell.num_feature_axes != 1:
            raise ValueError(
                "RNN.cell must read feature vectors, got "
                f"{type(self.cell).__name__} with {self.cell.num_feature_axes} feature axes"
            )
        check_positive("RNN.unroll", self.unroll)
        super().__post_init__()

    def __call__(
        self,
        inputs: Float[Array, "batch time features"],
        done: Bool[Array, "batch time"] | None = None,
        initial_carry: Carry | None = None,
    ) -> tuple[Carry, Float[Array, "batch time features_out"]]:
        """Read a chunk of a sequence; see ``SequenceModel``."""
        inputs, done = checked_inputs(self, inputs, done)
        carry = checked_carry(self, initial_carry, inputs)
        carry = carry_with_history(self, self.cell, inputs, done, carry)
        run = _run_with_own_backward_pass if _has_own_backward_pass(self.cell) else _run_any_cell
        return run(self.cell, inputs, done, carry, self.unroll)

    @nn.nowrap
    def initialize_carry(self, key: Array, input_shape: tuple[int, ...]) -> Carry:
        """Return the cell's own initial carry."""
        return self.cell.initialize_carry(key, input_shape)

    @nn.nowrap
    def without_exact_gradient(self) -> tuple[str, ...]:
        """Return the cell's name if its gradient cannot be carried; see ``SequenceModel``."""
        return () if has_exact_gradient(self.cell) else (type(self.cell).__name__,)


def _run_any_cell(cell, inputs, done, carry, unroll):
    fresh = fresh_carry(cell, (inputs.shape[0], inputs.shape[-1]))
    dtype = inputs.dtype

    def step(cell, carry, input_and_done):
        inputs, done = input_and_done
        inputs = inputs.astype(dtype)
        carry = jax.tree.map(lambda new, old: jnp.where(_align(done, old), new, old), fresh, carry)
        next_carry, outputs = cell(carry, inputs)
        # A cell that computes in another precision than it remembers must not change its carry.
        next_carry = jax.tree.map(lambda new, old: new.astype(old.dtype), next_carry, carry)
        return next_carry, outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32))

    if jnp.finfo(getattr(cell, "dtype", None) or dtype).bits < 32:
        # XLA on CPU converts all of a half-precision array that a scan stacks or reads at each
        # step, which makes time quadratic. What the backward pass needs is computed again instead
        # of kept, and inputs are read as float32.
        step = nn.remat(step, prevent_cse=False)
    scan = nn.scan(
        step,
        variable_broadcast="params",
        split_rngs={"params": False, "dropout": True},
        in_axes=1,
        out_axes=1,
        unroll=unroll,
    )
    wide = jnp.promote_types(dtype, jnp.float32)
    return scan(cell, carry, (inputs.astype(wide), done))


def _align(done, leaf):
    return done.reshape(done.shape + (1,) * (leaf.ndim - 1))


def _has_own_backward_pass(cell):
    return (
        _equations(cell) in (nn.GRUCell, nn.LSTMCell, nn.OptimizedLSTMCell)
        and cell.gate_fn is nn.sigmoid
        and cell.activation_fn is nn.tanh
        and cell.carry_init is nn.initializers.zeros_init()
    )


def _equations(cell):
    """Return the class whose equations a cell has: its own, or one that it only initialises."""
    # Not getattr: a subclass of such a class may have equations of its own.
    return vars(type(cell)).get("same_equations_as", type(cell))


def _run_with_own_backward_pass(cell, inputs, done, carry, unroll):
    if cell.is_initializing():
        cell(carry, inputs[:, 0])
    params = cell.variables["params"]

    def side_by_side(names, leaf="kernel"):
        return jnp.concatenate([params[name][leaf] for name in names], axis=-1)

    if _equations(cell) is nn.GRUCell:
        weights = (
            side_by_side(("ir", "iz", "in")),
            side_by_side(("ir", "iz", "in"), "bias"),
            side_by_side(("hr", "hz", "hn")),
            params["hn"]["bias"],
        )
        run = gru
    else:
        weights = (
            side_by_side(("ii", "if", "ig", "io")),
            side_by_side(("hi", "hf", "hg", "ho")),
            side_by_side(("hi", "hf", "hg", "ho"), "bias"),
        )
        run = lstm
    _, *weights = promote_dtype(inputs, *weights, dtype=cell.dtype)
    return run(inputs, done, carry, *weights, unroll=unroll)
