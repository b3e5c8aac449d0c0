"""Cells made elsewhere as memories: any object that computes a step, and memax's semigroups."""

import inspect
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from memorax.networks.sequence_models.base import Carry
from memorax.networks.sequence_models.memoroid import Memoroid, MemoroidCell, MonoidCell
from memorax.networks.sequence_models.rnn import RNN

SIGNATURES = {
    "initialize_carry": "initialize_carry(key, input_shape) -> carry",
    "__call__": "__call__(carry, inputs) -> (carry, outputs)",
}
"""The methods of a cell."""


class CellAdapter(nn.RNNCellBase):
    """Let any object that computes a step serve as the cell of ``RNN``.

    The object has ``initialize_carry(key, input_shape)`` and ``__call__(carry, inputs)``, which
    returns the next carry and the outputs. A Flax module keeps its parameters under ``"cell"``; any
    other object has no parameters that are trained.

    Attributes:
        cell: The object.
        batched: Whether it reads a batch, ``inputs`` of shape (batch, features) with the batch axis
            first in every leaf of the carry. False: it reads one vector of shape (features,), with
            the ``input_shape`` (features,), and is mapped over the batch.

    Raises:
        ValueError: At construction, if ``cell`` is a class, lacks one of the methods, or is a
            pytree with arrays, which would not be trained; at the call, if a carry does not lead
            with the batch axis, changes its structure or shapes, or is not returned.

    Examples:
        >>> class Sum:
        ...     initialize_carry = lambda self, key, input_shape: jnp.zeros(input_shape)
        ...     __call__ = lambda self, carry, inputs: (carry + inputs, carry + inputs)
        >>> carry, sums = RNN(CellAdapter(Sum())).apply({}, inputs)
        >>> sums[0, :, 0].tolist()
        [1.0, 2.0, 3.0, 4.0, 5.0]
    """

    cell: Any
    batched: bool = True

    def __post_init__(self):
        """Check the fields."""
        check_cell("CellAdapter.cell", self.cell)
        super().__post_init__()

    def __call__(
        self, carry: Carry, inputs: Float[Array, "batch features"]
    ) -> tuple[Carry, Float[Array, "batch features_out"]]:
        """Compute a step of each row."""
        result = self._step()(self.cell, carry, inputs)
        name = type(self.cell).__name__
        if not isinstance(result, tuple) or len(result) != 2:
            raise ValueError(
                f"{name}.__call__ must return (carry, outputs), got {type(result).__name__}"
            )
        next_carry, outputs = result
        if _shapes(next_carry) != _shapes(carry):
            raise ValueError(
                f"{name}.__call__ must return a carry like the one given, {_shapes(carry)}, got "
                f"{_shapes(next_carry)}"
            )
        return next_carry, outputs

    def _step(self):
        def step(cell, carry, inputs):
            return cell(carry, inputs)

        if self.batched:
            return step
        if isinstance(self.cell, nn.Module):
            return nn.vmap(
                step,
                variable_axes={"params": None},
                split_rngs={"params": False, "dropout": True},
            )
        return lambda cell, carry, inputs: jax.vmap(cell)(carry, inputs)

    @nn.nowrap
    def initialize_carry(self, rng: Array, input_shape: tuple[int, ...]) -> Carry:
        """Return the cell's initial carry, for each row."""
        batch, *features = input_shape
        if not self.batched:
            return _for_each_row(self.cell.initialize_carry(rng, tuple(features)), batch)
        carry = self.cell.initialize_carry(rng, input_shape)
        if any(jnp.shape(leaf)[:1] != (batch,) for leaf in jax.tree.leaves(carry)):
            raise ValueError(
                f"{type(self.cell).__name__}.initialize_carry(key, {input_shape}) must return "
                f"arrays of shape ({batch}, ...), got {_shapes(carry)}; for a cell that reads one "
                "vector use CellAdapter(cell, batched=False)"
            )
        return carry

    @property
    def num_feature_axes(self) -> int:
        """1: a cell reads feature vectors."""
        return 1


class MemaxCell(MonoidCell):
    """Run a semigroup model of the memax package in parallel over time, as ``Memoroid``'s cell.

    The model's own maps and operator are used; resets are those of ``memorax.ops``. memax's
    multiply the state by zero, which a NaN of the episode before survives.

    Attributes:
        model: A ``memax.linen`` model over a semigroup, such as ``LRU`` or ``FART``.

    Raises:
        ValueError: At construction, if ``model`` is no such model.

    Source: Morad et al. 2024, "Recurrent Reinforcement Learning with Memoroids", arXiv 2402.09900.

    Examples:
        >>> try:
        ...     MemaxCell(model=nn.Dense(8))
        ... except ValueError as error:
        ...     print(error)
        MemaxCell.model must be a memax.linen model over a semigroup, got Dense
    """

    model: nn.Module

    def __post_init__(self):
        """Check the fields."""
        if not is_memax_semigroup(self.model):
            raise ValueError(
                "MemaxCell.model must be a memax.linen model over a semigroup, got "
                f"{type(self.model).__name__}"
            )
        super().__post_init__()

    def elements(self, inputs: Float[Array, "batch time features"]) -> PyTree:
        """Return what the model's forward map makes of each step."""

        def forward(model, inputs):
            element, _ = model.forward_map((inputs, jnp.bool_(False)))
            return _as_real(element)

        return self._at_each_step(forward)(self.model, inputs)

    def binary_operator(self, earlier: PyTree, later: PyTree) -> PyTree:
        """Combine by the semigroup, which has no parameters."""
        semigroup = self._semigroup()

        def combine(earlier, later):
            states = (self._as_complex(state) for state in (earlier, later))
            return _as_real(semigroup.apply({}, *states))

        return jax.vmap(jax.vmap(combine))(earlier, later)

    def outputs(
        self, states: PyTree, inputs: Float[Array, "batch time features"]
    ) -> Float[Array, "batch time features_out"]:
        """Return what the model's backward map makes of each state."""

        def backward(model, state, inputs):
            no_start = jnp.bool_(False)
            return model.backward_map((self._as_complex(state), no_start), (inputs, no_start))

        return self._at_each_step(backward)(self.model, states, inputs)

    @nn.nowrap
    def initialize_carry(self, key: Array, input_shape: tuple[int, ...]) -> Carry:
        """Return the semigroup's identity for each row."""
        return _for_each_row(_as_real(self._semigroup().initialize_carry()), input_shape[0])

    @nn.nowrap
    def _semigroup(self):
        return self.model.algebra.algebra.clone(parent=None)

    @nn.nowrap
    def _as_complex(self, state):
        """Return a state of one row and step as the semigroup has it."""
        kinds = jax.eval_shape(self._semigroup().initialize_carry)

        def join(kind, leaf):
            if jnp.issubdtype(kind.dtype, jnp.complexfloating):
                return jax.lax.complex(leaf[..., 0], leaf[..., 1])
            return leaf

        return jax.tree.map(join, kinds, state)

    def _at_each_step(self, function):
        for _ in ("batch", "time"):
            function = nn.vmap(
                function, variable_axes={"params": None}, split_rngs={"params": False}
            )
        return function


def as_sequence_model(cell: Any, batched: bool = True) -> Any:
    """Return a torso that runs a cell over time.

    Args:
        cell: A sequence model, which is returned as it is; a cell of ``Memoroid`` or ``RNN``; a
            memax model over a semigroup; or any object with the methods of ``CellAdapter``.
        batched: As ``CellAdapter``, for such an object.

    Raises:
        ValueError: As ``CellAdapter``.
    """
    if isinstance(cell, MemoroidCell):
        return Memoroid(cell)
    if isinstance(cell, nn.RNNCellBase):
        return RNN(cell)
    if is_memax_semigroup(cell):
        return Memoroid(MemaxCell(cell))
    if hasattr(cell, "initialize_carry") and _takes_resets(cell):
        return cell
    return RNN(CellAdapter(cell, batched))


def check_cell(field: str, cell: Any) -> None:
    """Raise ``ValueError`` if an object is not a cell that computes a step."""
    name = type(cell).__name__
    if isinstance(cell, type):
        raise ValueError(
            f"{field} must be an instance, got the class {cell.__name__}: "
            f"write {cell.__name__}(...)"
        )
    for method, signature in SIGNATURES.items():
        if not callable(getattr(cell, method, None)):
            raise ValueError(f"{field} must have the method {signature}, got {name} without it")
    if _takes_resets(cell):
        raise ValueError(
            f"{field} must compute a single step, {SIGNATURES['__call__']}, got {name}, which "
            "takes done: it is a sequence model already"
        )
    if any(leaf is not cell and isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(cell)):
        raise ValueError(
            f"{field} must be a Flax module or an object without arrays, got {name}, a pytree "
            "whose arrays would not be trained: declare them by self.param in a Flax module"
        )


def is_memax_semigroup(model: Any) -> bool:
    """Return whether a model is one of ``memax.linen`` over a semigroup; memax is not imported."""
    kinds = type(getattr(getattr(model, "algebra", None), "algebra", None)).__mro__
    return any((kind.__module__, kind.__name__) == _SEMIGROUP for kind in kinds)


_SEMIGROUP = "memax.linen.groups", "Semigroup"


def _takes_resets(cell: Any) -> bool:
    return "done" in inspect.signature(type(cell).__call__).parameters


def _for_each_row(carry: Carry, batch: int) -> Carry:
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (batch, *jnp.shape(leaf))), carry)


def _as_real(state: PyTree) -> PyTree:
    """Return a state whose complex numbers are pairs, for gradients to a carry are real."""

    def split(leaf):
        return jnp.stack([leaf.real, leaf.imag], -1) if jnp.iscomplexobj(leaf) else leaf

    return jax.tree.map(split, state)


def _shapes(carry: Carry) -> str:
    return str(jax.tree.map(lambda leaf: list(jnp.shape(leaf)), carry))
