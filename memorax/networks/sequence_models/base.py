"""The interface of a sequence model, and checks of its inputs."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

Carry = PyTree[Array]


class SequenceModel(nn.Module):
    """A memory over time: the base class of every torso that holds a carry.

    A subclass implements ``__call__`` and ``initialize_carry`` and keeps the laws: its outputs do
    not depend on how a sequence is cut, it forgets exactly where ``done`` is true, it never looks
    ahead and never mixes rows. One call serves acting (time 1) and training (any other time).

    Examples:
        >>> class Counter(SequenceModel):
        ...     def __call__(self, inputs, done=None, initial_carry=None):
        ...         count = jnp.zeros(2, int) if initial_carry is None else initial_carry
        ...         age = ops.episode_age(done, count, limit=100)
        ...         return age[:, -1] + 1, age[..., None].astype(float)
        >>> Counter().apply({}, inputs, done=jnp.zeros((2, 5), bool))[1][0].ravel().tolist()
        [0.0, 1.0, 2.0, 3.0, 4.0]
    """

    def __call__(
        self,
        inputs: Float[Array, "batch time features"],
        done: Bool[Array, "batch time"] | None = None,
        initial_carry: Carry | None = None,
    ) -> tuple[Carry, Float[Array, "batch time features_out"]]:
        """Read a chunk of a sequence.

        Args:
            inputs: At least one step.
            done: True where an input is the first of a new episode: earlier inputs are forgotten
                before it is read. ``None``: no episode begins.
            initial_carry: The carry returned for the previous chunk; ``None``: a fresh one.

        Returns:
            The carry for the next chunk, of the same structure, shapes and dtypes as the one
            given, and the outputs.

        Raises:
            ValueError: If a shape, dtype or the carry does not fit; the message names both sides.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement __call__")

    @nn.nowrap
    def initialize_carry(self, key: Array, input_shape: tuple[int, ...]) -> Carry:
        """Return the carry before the first input.

        Args:
            key: A PRNG key, for models whose fresh carry is drawn.
            input_shape: ``(batch, features)``.

        Returns:
            A pytree of arrays, batch axis first on every leaf.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement initialize_carry")

    @nn.nowrap
    def without_exact_gradient(self) -> tuple[str, ...]:
        """Return the names of the memories whose gradient cannot be carried beside the state.

        A memory whose carry does not depend on its parameters has none to carry, and is not named.
        """
        return (type(self).__name__,)


def fresh_carry(model: Any, input_shape: tuple[int, ...]) -> Carry:
    """Return the carry that a call without carry starts from, and that resets return to."""
    return initialize_carry(model, jax.random.key(0), input_shape)


def initialize_carry(model: Any, key: Array, input_shape: tuple[int, ...]) -> Carry:
    """Return ``model``'s initial carry; that of a plain module, which holds none, is ``()``."""
    if is_sequence_model(model):
        return model.initialize_carry(key, input_shape)
    return ()


def apply_sequence_model(
    model: Any,
    inputs: Float[Array, "batch time features"],
    done: Bool[Array, "batch time"] | None = None,
    initial_carry: Carry | None = None,
) -> tuple[Carry, Float[Array, "batch time features_out"]]:
    """Call a sequence model, or a plain module as one whose carry is ``()``."""
    if is_sequence_model(model):
        return model(inputs, done=done, initial_carry=initial_carry)
    inputs, _ = checked_inputs(model, inputs, done)
    return checked_carry(model, initial_carry, inputs), model(inputs)


def is_sequence_model(model: Any) -> bool:
    """Return whether ``model`` is a sequence model, which a plain module is not."""
    return hasattr(model, "initialize_carry")


def check_sequence_model(field: str, model: Any) -> None:
    """Raise ``ValueError`` if ``model`` is neither a sequence model nor a plain module."""
    if isinstance(model, nn.RNNCellBase):
        raise ValueError(
            f"{field} must be a sequence model, got the cell {type(model).__name__}, "
            f"which computes a single step: use RNN(cell={type(model).__name__}(...))"
        )
    if isinstance(model, nn.RNN):
        raise ValueError(
            f"{field} must be a sequence model, got flax.linen.RNN, which neither takes resets "
            "nor hands on its carry: use memorax.networks.RNN"
        )
    check_callable(field, model)


def check_callable(field: str, model: Any) -> None:
    """Raise ``ValueError`` if ``model`` is neither a module nor another callable instance."""
    if isinstance(model, type):
        raise ValueError(
            f"{field} must be an instance of a module, got the class {model.__name__}: "
            f"write {model.__name__}(...)"
        )
    if not isinstance(model, nn.Module) and not callable(model):
        raise ValueError(f"{field} must be a Flax module or a callable, got {model!r}")


def checked_inputs(model: Any, inputs: Array, done: Array | None) -> tuple[Array, Array]:
    """Return ``inputs`` and ``done`` as arrays, ``done`` filled in, or raise ``ValueError``."""
    name = type(model).__name__
    inputs = jnp.asarray(inputs)
    if inputs.ndim != 3:
        raise ValueError(
            f"{name} reads inputs of shape (batch, time, features), got {inputs.shape}"
        )
    if 0 in inputs.shape:
        raise ValueError(f"{name} needs at least one row, step and feature, got {inputs.shape}")
    if not jnp.issubdtype(inputs.dtype, jnp.inexact):
        raise ValueError(f"{name} reads floating-point inputs, got dtype {inputs.dtype}")
    return inputs, checked_done(name, done, inputs.shape[:2])


def checked_done(name: str, done: Array | None, shape: tuple[int, ...]) -> Array:
    """Return ``done`` as an array of the given shape, or raise ``ValueError``."""
    if done is None:
        return jnp.zeros(shape, bool)
    done = jnp.asarray(done)
    if done.shape != shape:
        raise ValueError(f"{name}: done must have shape (batch, time) = {shape}, got {done.shape}")
    if done.dtype != bool:
        raise ValueError(f"{name}: done must have dtype bool, got {done.dtype}")
    return done


def checked_carry(model: Any, carry: Carry | None, inputs: Array) -> Carry:
    """Return ``carry``, or a fresh one for ``None``; raise ``ValueError`` if it does not fit."""
    input_shape = (inputs.shape[0], inputs.shape[-1])
    if carry is None:
        return fresh_carry(model, input_shape)
    expected = jax.eval_shape(lambda: fresh_carry(model, input_shape))
    if _describe(carry) != _describe(expected):
        raise ValueError(
            f"{type(model).__name__}: initial_carry must be like initialize_carry(key, "
            f"{input_shape}), {_describe(expected)}, got {_describe(carry)}"
        )
    return carry


def _describe(carry: PyTree) -> str:
    """Write a carry as its structure with each array's dtype and shape in its place."""
    return str(jax.tree.map(lambda leaf: f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}", carry))
