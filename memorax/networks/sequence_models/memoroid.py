"""Cells whose recurrence is linear in their state, run over time."""

from typing import ClassVar, get_args

import flax.linen as nn
from jaxtyping import Array, Bool, Float, PyTree

from memorax import ops
from memorax.networks.sequence_models.base import (
    Carry,
    SequenceModel,
    checked_carry,
    checked_inputs,
)
from memorax.networks.sequence_models.sensitivities import (
    carry_with_history,
    has_exact_gradient,
)
from memorax.ops.implementation import Implementation, check_implementation
from memorax.validation import check_positive


class MemoroidCell(nn.Module):
    """The base class of cells for ``Memoroid``: a recurrence that ``memorax.ops`` runs.

    A subclass implements ``__call__`` and ``initialize_carry``. The easiest way to
    write one is a ``MonoidCell``.

    Examples:
        >>> class Sum(MemoroidCell):
        ...     def __call__(self, inputs, done, carry, implementation, chunk_size):
        ...         decay = jnp.ones(inputs.shape[-1])
        ...         return ops.linear_recurrence(decay, inputs, done, carry, implementation)
        ...     def initialize_carry(self, key, input_shape):
        ...         return jnp.zeros(input_shape)
        >>> carry, sums = Memoroid(Sum()).apply({}, inputs)
    """

    implementations: ClassVar[tuple[str, ...]] = get_args(Implementation)
    """The implementations that the cell's recurrence has."""

    def __call__(
        self,
        inputs: Float[Array, "batch time features"],
        done: Bool[Array, "batch time"],
        carry: Carry,
        implementation: Implementation,
        chunk_size: int | None,
    ) -> tuple[Carry, Float[Array, "batch time features_out"]]:
        """Read a chunk of a sequence, as a ``SequenceModel`` does; everything is given."""
        raise NotImplementedError(f"{type(self).__name__} must implement __call__")

    @nn.nowrap
    def initialize_carry(self, key: Array, input_shape: tuple[int, ...]) -> Carry:
        """Return the carry before the first input; ``input_shape`` ends in features."""
        raise NotImplementedError(f"{type(self).__name__} must implement initialize_carry")


class MonoidCell(MemoroidCell):
    """A cell given by an associative operator, combined in parallel over time.

    A subclass implements the three methods below and ``initialize_carry``, which returns the
    operator's identity: the state that a new episode starts from.

    Examples:
        >>> class Maximum(MonoidCell):
        ...     elements = lambda self, inputs: inputs
        ...     binary_operator = lambda self, earlier, later: jnp.maximum(earlier, later)
        ...     outputs = lambda self, states, inputs: states
        ...     initialize_carry = lambda self, key, input_shape: jnp.full(input_shape, -jnp.inf)
        >>> carry, largest = Memoroid(Maximum()).apply({}, inputs)
    """

    implementations: ClassVar[tuple[str, ...]] = ("auto", "associative")

    def elements(self, inputs: Float[Array, "batch time features"]) -> PyTree:
        """Return each step's element: a tree of arrays like the carry, with a time axis."""
        raise NotImplementedError(f"{type(self).__name__} must implement elements")

    def binary_operator(self, earlier: PyTree, later: PyTree) -> PyTree:
        """Combine an earlier element with a later one; must be associative."""
        raise NotImplementedError(f"{type(self).__name__} must implement binary_operator")

    def outputs(
        self, states: PyTree, inputs: Float[Array, "batch time features"]
    ) -> Float[Array, "batch time features_out"]:
        """Return the outputs, given the state after each step and the inputs."""
        raise NotImplementedError(f"{type(self).__name__} must implement outputs")

    def __call__(
        self,
        inputs: Float[Array, "batch time features"],
        done: Bool[Array, "batch time"],
        carry: Carry,
        implementation: Implementation,
        chunk_size: int | None,
    ) -> tuple[Carry, Float[Array, "batch time features_out"]]:
        """Combine the elements with the carry and with one another, and read the states."""
        elements = self.elements(inputs)
        carry, states = ops.associative_scan(self.binary_operator, elements, done, carry)
        return carry, self.outputs(states, inputs)


class Memoroid(SequenceModel):
    """Run a memoroid cell over time, starting again at each episode.

    Attributes:
        cell: The cell, such as ``LRUCell(config=LRUConfig(features=64, hidden_dim=64))``.
        implementation: How the recurrence is run; results are the same. ``"auto"`` lets
            ``memorax.ops`` choose by length and kind of device; ``"sequential"``
            scans over steps; ``"associative"`` combines steps in parallel; ``"chunked"`` does so
            within chunks, one after another.
        chunk_size: Steps of a chunk; ``None`` is the default of ``memorax.ops``. Any number
            of steps may be read, whatever it is.

    Raises:
        ValueError: At construction, if ``cell`` is not a memoroid cell or lacks the implementation;
            at the call, as ``SequenceModel``.

    Source: Morad et al. 2024, "Recurrent Reinforcement Learning with Memoroids", arXiv 2402.09900.

    Examples:
        >>> torso = Memoroid(LRUCell(LRUConfig(features=16, hidden_dim=16)))
        >>> (carry, outputs), params = jax.eval_shape(torso.init_with_output, key, inputs)
        >>> [leaf.shape for leaf in carry], outputs.shape
        ([(2, 16), (2, 16)], (2, 5, 16))
    """

    cell: MemoroidCell
    implementation: Implementation = "auto"
    chunk_size: int | None = None

    def __post_init__(self):
        """Check the fields."""
        if isinstance(self.cell, nn.RNNCellBase):
            raise ValueError(
                f"Memoroid.cell must be a memoroid cell, got {type(self.cell).__name__}, which "
                f"computes a single step: use RNN(cell={type(self.cell).__name__}(...))"
            )
        if not isinstance(self.cell, MemoroidCell):
            raise ValueError(
                "Memoroid.cell must be an instance of MemoroidCell, such as "
                f"LRUCell(config=LRUConfig(...)), got {self.cell!r}"
            )
        check_implementation(
            f"Memoroid.implementation of {type(self.cell).__name__}",
            self.implementation,
            self.cell.implementations,
        )
        if self.chunk_size is not None:
            check_positive("Memoroid.chunk_size", self.chunk_size)
            if "chunked" not in self.cell.implementations:
                raise ValueError(
                    f"Memoroid.chunk_size: {type(self.cell).__name__} is not run in chunks, got "
                    f"{self.chunk_size}"
                )
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
        return self.cell(inputs, done, carry, self.implementation, self.chunk_size)

    @nn.nowrap
    def initialize_carry(self, key: Array, input_shape: tuple[int, ...]) -> Carry:
        """Return the cell's own initial carry."""
        return self.cell.initialize_carry(key, input_shape)

    @nn.nowrap
    def without_exact_gradient(self) -> tuple[str, ...]:
        """Return the cell's name if its gradient cannot be carried; see ``SequenceModel``."""
        return () if has_exact_gradient(self.cell) else (type(self.cell).__name__,)
