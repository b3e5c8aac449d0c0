"""The laws of a memory, each stated once.

A law is a function of a model, which may be a sequence model or a plain module that serves as
one. It returns nothing if the model keeps the law and raises ``LawBrokenError`` if not. Cases are
drawn by hypothesis with their shapes fixed, so that each program is compiled once.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.errors
import flax.linen as nn
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from memorax.networks.sequence_models.base import apply_sequence_model, initialize_carry

BATCH, TIME, FEATURES = 3, 13, 5
PIECES = (6, 1, 6)
PERTURBATION = 0.2
LONGEST = 16384


@dataclass(frozen=True)
class Precision:
    """What a model computes in and how exact it must then be, relative to its outputs' scale."""

    name: str
    dtype: Any
    param_dtype: Any
    tolerance: float


FLOAT32 = Precision("float32", None, jnp.float32, 1e-5)
BFLOAT16 = Precision("bfloat16", jnp.bfloat16, jnp.float32, 3e-2)
FLOAT64 = Precision("float64", None, jnp.float64, 1e-10)


class LawBrokenError(AssertionError):
    """A model does not keep the law of the given name."""

    def __init__(self, law: str, reason: str):
        super().__init__(f"{law}: {reason}")
        self.law = law


def law(statement: Callable[..., None]) -> Callable[..., None]:
    """Make what a statement asserts a law of the statement's name."""

    @functools.wraps(statement)
    def held_to(*args, **kwargs):
        try:
            statement(*args, **kwargs)
        except AssertionError as error:
            raise LawBrokenError(statement.__name__, str(error)) from error

    return held_to


@law
def cut(model: Any, precision: Precision = FLOAT32) -> None:
    """However a sequence is cut, handing the carry on, outputs and final carry are the same."""
    memory = _memory(model, precision)
    prefix = memory.draw_inputs(seed=1, time=PIECES[0])
    later_carry, _ = memory.read(prefix, np.zeros(prefix.shape[:2], bool), memory.fresh)
    _assert_alike(later_carry, memory.fresh, "the carry after a call")

    @hypothesis.given(_dones(), st.permutations(PIECES), st.booleans(), st.integers(0, 9))
    @_examples(pieces=PIECES, later=True, seed=0)
    def holds(done, pieces, later, seed):
        inputs = memory.draw_inputs(seed)
        start = later_carry if later else memory.fresh
        carry, outputs = memory.read(inputs, done, start)
        _assert_alike(carry, start, "the carry after a call")
        for lengths in ([1] * TIME, pieces):
            piecewise_carry, piecewise_outputs = memory.read_in_pieces(inputs, done, start, lengths)
            _assert_close(piecewise_outputs, outputs, memory, f"outputs in pieces of {lengths}")
            _assert_close(piecewise_carry, carry, memory, f"final carry in pieces of {lengths}")

    holds()
    inputs = memory.draw_inputs(seed=0)
    none = np.zeros((BATCH, TIME), bool)
    _assert_close(
        memory.read(inputs, None, None),
        memory.read(inputs, none, memory.fresh),
        memory,
        "carry and outputs without done and initial carry",
    )


@law
def reset(model: Any, precision: Precision = FLOAT32) -> None:
    """After ``done[t]``, all is as from a fresh carry fed ``inputs[t:]``; before it lies nothing.

    No gradient reaches back, and a NaN or infinity of the episode before leaves no trace.
    """
    memory = _memory(model, precision)
    prefix = memory.draw_inputs(seed=1, time=PIECES[0])
    later_carry, _ = memory.read(prefix, np.zeros(prefix.shape[:2], bool), memory.fresh)
    # The lengths after these steps are those of one pass, a piece and a single step.
    starts = (0, TIME - PIECES[0], TIME - 1)

    @hypothesis.given(
        _dones(),
        st.integers(0, BATCH - 1),
        st.sampled_from(starts),
        st.sampled_from([np.nan, np.inf, -np.inf]),
        st.integers(0, 9),
    )
    @_examples(row=1, start=starts[1], poison=np.nan, seed=0)
    def holds(done, row, start, poison, seed):
        inputs = memory.draw_inputs(seed)
        done = done.copy()
        done[row, start] = True
        episode = np.zeros(done.shape, bool)
        episode[row, start:] = True

        def read(inputs, carry):
            # In numpy, for every other slice of a JAX array would be a program of its own.
            return jax.device_get(memory.read_with_gradients(inputs, done, carry, episode, False))

        (_, (_, outputs)), (_, to_inputs, to_carry) = read(inputs, later_carry)

        # A fresh carry needs no reset.
        done_after = done[:, start:].copy()
        done_after[row, 0] = False
        _, fresh_outputs = memory.read(inputs[:, start:], done_after, memory.fresh)
        _assert_close(
            outputs[row, start:],
            np.asarray(fresh_outputs)[row],
            memory,
            f"outputs after done at {start}",
        )

        _assert_zero(to_inputs[row, :start], f"the gradient of inputs before done at {start}")
        for leaf in _floating(to_carry):
            _assert_zero(leaf[row], f"the gradient of the carry before done at {start}")

        poisoned_inputs = inputs.copy()
        poisoned_inputs[row, :start] = poison
        poisoned_carry = jax.tree.map(lambda leaf: _poisoned(leaf, row, poison), later_carry)
        (_, (_, poisoned_outputs)), (_, poisoned_to_inputs, _) = read(
            poisoned_inputs, poisoned_carry
        )
        trace = f"of {poison} before done at {start}"
        _assert_close(
            poisoned_outputs[row, start:], outputs[row, start:], memory, f"outputs {trace}"
        )
        _assert_close(
            poisoned_to_inputs[row, start:], to_inputs[row, start:], memory, f"gradient {trace}"
        )

    holds()


@law
def causal(model: Any, precision: Precision = FLOAT32) -> None:
    """``outputs[t]`` never depends on ``inputs[t+1:]`` or ``done[t+1:]``."""
    memory = _memory(model, precision)

    @hypothesis.given(_dones(), _dones(), st.integers(0, TIME - 2), st.integers(0, 9))
    @_examples(other_done=np.eye(BATCH, TIME, 3, dtype=bool), step=2, seed=0)
    def holds(done, other_done, step, seed):
        inputs = memory.draw_inputs(seed)
        other_inputs = 3 * memory.draw_inputs(seed + 1)
        other_inputs[:, : step + 1] = inputs[:, : step + 1]
        other_done = np.concatenate([done[:, : step + 1], other_done[:, step + 1 :]], axis=1)
        _, outputs = jax.device_get(memory.read(inputs, done, memory.fresh))
        _, other_outputs = jax.device_get(memory.read(other_inputs, other_done, memory.fresh))
        _assert_close(
            other_outputs[:, : step + 1],
            outputs[:, : step + 1],
            memory,
            f"outputs up to step {step} before another future",
        )

    holds()


@law
def row(model: Any, precision: Precision = FLOAT32) -> None:
    """Batch rows never mix, whatever their resets."""
    memory = _memory(model, precision)
    inputs = memory.draw_inputs(seed=1)
    done = np.zeros((BATCH, TIME), bool)
    fresh, (other_carry, _) = jax.device_get(
        (memory.fresh, memory.read(inputs, done, memory.fresh))
    )

    @hypothesis.given(_dones(), _dones(), st.integers(0, BATCH - 1), st.integers(0, 9))
    @_examples(other_done=np.eye(BATCH, TIME, 3, dtype=bool), changed=0, seed=0)
    def holds(done, other_done, changed, seed):
        inputs = memory.draw_inputs(seed)
        other_inputs = inputs.copy()
        other_inputs[changed] = 3 * memory.draw_inputs(seed + 1)[changed]
        done_changed = done.copy()
        done_changed[changed] = other_done[changed]
        carry_changed = jax.tree.map(
            lambda leaf, other: np.concatenate(
                [leaf[:changed], other[changed : changed + 1], leaf[changed + 1 :]]
            ),
            fresh,
            other_carry,
        )
        before = memory.read(inputs, done, memory.fresh)
        after = memory.read(other_inputs, done_changed, carry_changed)
        before, after = jax.tree.map(lambda leaf: np.delete(leaf, changed, axis=0), (before, after))
        _assert_close(after, before, memory, f"the other rows when row {changed} changes")

    holds()


@law
def finite(model: Any, precision: Precision = FLOAT32) -> None:
    """Outputs and gradients are finite, however long the sequence and large or small its inputs.

    A recurrence that the perturbed parameters make expand would have to explode over so long a
    time. Those listed do not: their states are bounded, or they decay.
    """
    # Every case is a row of one batch: at the longest time each step costs more than its rows.
    scales = np.repeat([1e-3, 1, 1e3], 2)
    resets = np.tile([False, True], 3)
    memory = _memory(model, precision, batch=len(scales))

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
    def read(variables, inputs, done):
        carry, outputs = memory.apply(variables, inputs, done, memory.fresh)
        return outputs.sum(), (carry, outputs)

    for time in (1, 129, LONGEST):
        inputs = memory.draw_inputs(seed=0, time=time)
        inputs *= scales[:, None, None].astype(inputs.dtype)
        done = np.repeat(resets[:, None], time, axis=1)
        (_, forward), (to_variables, to_inputs) = jax.device_get(
            read(memory.variables, inputs, done)
        )
        for leaf in _floating((forward, to_inputs)):
            bad = [
                f"scale {scales[row]:g}, resets {resets[row]}"
                for row in range(len(scales))
                if not np.isfinite(leaf[row]).all()
            ]
            assert not bad, f"outputs, carry or gradient of inputs not finite at time {time}: {bad}"
        for leaf in _floating(to_variables):
            assert np.isfinite(leaf).all(), f"gradient of parameters not finite at time {time}"


@law
def one_answer(model: Any, alternative: Any, precision: Precision = FLOAT32) -> None:
    """Every implementation of the same recurrence agrees, in its gradients too."""
    memory, other = _memory(model, precision), _memory(alternative, precision)
    _assert_alike(other.variables, memory.variables, "the parameters")
    _assert_alike(other.fresh, memory.fresh, "the initial carry")
    prefix = memory.draw_inputs(seed=1)
    later_carry, _ = memory.read(prefix, np.zeros((BATCH, TIME), bool), memory.fresh)

    @hypothesis.given(_dones(), st.booleans(), st.integers(0, 9))
    @_examples(later=True, seed=0)
    def holds(done, later, seed):
        start = later_carry if later else memory.fresh
        arguments = memory.draw_inputs(seed), done, start
        (_, forward), gradients = memory.read_with_gradients(*arguments)
        (_, other_forward), other_gradients = other.read_with_gradients(*arguments)
        _assert_close(other_forward, forward, memory, "carry and outputs of the other")
        _assert_gradients_close(other_gradients, gradients, memory, "gradients of the other")

    holds()


@law
def transparent(model: Any, precision: Precision = FLOAT32) -> None:
    """JAX's transformations change nothing, and without a dropout key nothing is random."""
    memory = _memory(model, precision)
    # Two sequences, each from a carry of its own.
    inputs = np.stack([memory.draw_inputs(seed=0), memory.draw_inputs(seed=1)])
    done = np.random.default_rng(0).random(inputs.shape[:3]) < 0.2
    arguments = jax.tree.map(jnp.asarray, (memory.variables, inputs[0], done[0], memory.fresh))
    try:
        plain, again = memory.apply(*arguments), memory.apply(*arguments)
    except flax.errors.InvalidRngError as error:
        raise AssertionError(f"a call without keys needs one: {error}") from error
    _assert_equal(again, plain, "carry and outputs of the same call, made again")
    jitted = memory.read(inputs[0], done[0], memory.fresh)
    _assert_close(jitted, plain, memory, "carry and outputs under jit")

    traces = memory.traces
    second = memory.read(inputs[1], done[1], jitted[0])
    assert memory.traces == traces, "jit compiles anew for a carry that was returned"

    starts = memory.fresh, jitted[0]
    (_, forward), first_gradients = memory.read_with_gradients(inputs[0], done[0], starts[0])
    _assert_close(forward, jitted, memory, "carry and outputs under grad")
    _, second_gradients = memory.read_with_gradients(inputs[1], done[1], starts[1])

    # All the other transformations in one program, for each costs seconds to compile.
    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1, 3), has_aux=True, allow_int=True)
    def transformed(variables, inputs, done, carry):
        @jax.checkpoint
        def step(carry, at_time):
            inputs, done = (value[:, None] for value in at_time)
            carry, outputs = memory.apply(variables, inputs, done, carry)
            return carry, outputs[:, 0]

        def scanned(inputs, done, carry):
            time_major = jnp.swapaxes(inputs, 0, 1), jnp.swapaxes(done, 0, 1)
            carry, outputs = jax.lax.scan(step, carry, time_major)
            return carry, jnp.swapaxes(outputs, 0, 1)

        forward = jax.vmap(scanned)(inputs, done, carry)
        return jax.vmap(_weighted_sum)(forward).sum(), forward

    devices = jax.sharding.Mesh(jax.devices()[:2], ("batch",))
    rows = jax.sharding.NamedSharding(devices, jax.sharding.PartitionSpec(None, "batch"))
    everywhere = jax.sharding.NamedSharding(devices, jax.sharding.PartitionSpec())
    (_, forward), (to_variables, *to_data) = transformed(
        jax.device_put(memory.variables, everywhere),
        *jax.device_put((_both_orders(*inputs), _both_orders(*done), _both_orders(*starts)), rows),
    )
    how = "in a scan over steps, under vmap, jax.checkpoint and sharding along the batch"
    expected = _both_orders(jitted, second)
    _assert_close(forward, expected, memory, f"carry and outputs {how}")
    expected = (
        jax.tree.map(lambda one, other: 2 * (one + other), first_gradients[0], second_gradients[0]),
        *_both_orders(first_gradients[1:], second_gradients[1:]),
    )
    _assert_gradients_close((to_variables, *to_data), expected, memory, f"gradients {how}")


LAWS = (cut, reset, causal, row, finite, transparent)
"""The laws of a single model; ``one_answer`` is about two."""


class _Memory:
    """A model with parameters away from their initial values: a gate at zero hides errors."""

    def __init__(self, model: Any, precision: Precision, batch: int = BATCH):
        self.model, self.precision, self.batch = model, precision, batch
        self.apply = nn.apply(apply_sequence_model, model)
        self.variables = _perturbed_variables(model, precision)
        self.fresh = initialize_carry(model, jax.random.key(0), (batch, FEATURES))
        self.traces = 0

        def counted(variables, inputs, done, carry):
            self.traces += 1
            return self.apply(variables, inputs, done, carry)

        self.jitted = jax.jit(counted)

    def draw_inputs(self, seed: int, time: int = TIME) -> np.ndarray:
        inputs = np.random.default_rng(seed).standard_normal((self.batch, time, FEATURES))
        return inputs.astype(self.precision.param_dtype)

    def read(self, inputs: Any, done: Any, carry: Any) -> tuple[Any, Any]:
        return self.jitted(self.variables, inputs, done, carry)

    def read_in_pieces(self, inputs, done, carry, lengths) -> tuple[Any, Any]:
        outputs, ends = [], np.cumsum(lengths)
        for start, end in zip(ends - lengths, ends, strict=True):
            carry, piece = self.read(inputs[:, start:end], done[:, start:end], carry)
            outputs.append(np.asarray(piece))
        return carry, np.concatenate(outputs, axis=1)

    def read_with_gradients(self, inputs, done, carry, steps=None, with_carry=True):
        """Differentiate a sum over the outputs of ``steps`` (``None``: all) and the final carry.

        Returns the sum, carry and outputs, and the gradients to parameters, inputs and carry.
        """
        steps = np.ones(inputs.shape[:2], bool) if steps is None else steps
        return self._read_with_gradients(self.variables, inputs, done, carry, steps, with_carry)

    @functools.cached_property
    def _read_with_gradients(self):
        @jax.jit
        @functools.partial(jax.value_and_grad, argnums=(0, 1, 3), has_aux=True, allow_int=True)
        def read(variables, inputs, done, carry, steps, with_carry):
            final, outputs = self.apply(variables, inputs, done, carry)
            # Not a product with zero: what does not count may be NaN.
            counted = jnp.where(steps[..., None], outputs, 0)
            final_counted = jax.tree.map(lambda leaf: jnp.where(with_carry, leaf, 0), final)
            return _weighted_sum((final_counted, counted)), (final, outputs)

        return read


@functools.lru_cache(maxsize=16)
def _memory(model: Any, precision: Precision, batch: int = BATCH) -> _Memory:
    """Return the memory that another law has compiled for already, if there is one."""
    return _Memory(model, precision, batch)


@functools.lru_cache(maxsize=16)
def _perturbed_variables(model: Any, precision: Precision) -> Any:
    """Return initial variables and some noise; they do not depend on the batch."""
    inputs = jnp.zeros((1, 1, FEATURES), precision.param_dtype)
    variables = jax.jit(nn.init(apply_sequence_model, model))(jax.random.key(0), inputs)
    noise = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: (leaf + PERTURBATION * noise.standard_normal(leaf.shape)).astype(leaf.dtype),
        # In numpy, for every shape that JAX adds to would be a program of its own.
        jax.device_get(variables),
    )


def _dones() -> st.SearchStrategy:
    return arrays(bool, (BATCH, TIME))


def _examples(**fixed: Any) -> Callable[[Callable], Callable]:
    """Try the resets that draws are unlikely to hit: none, all, at the first step, in a row."""
    first, consecutive = np.zeros((2, BATCH, TIME), bool)
    first[:, 0] = True
    consecutive[1:, 5:8] = True
    patterns = np.zeros((BATCH, TIME), bool), np.ones((BATCH, TIME), bool), first, consecutive

    def with_examples(test):
        for done in patterns:
            test = hypothesis.example(done, *fixed.values())(test)
        return test

    return with_examples


def _floating(tree: Any) -> list[Any]:
    return [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]


def _poisoned(leaf: Any, row: int, poison: float) -> Any:
    if not jnp.issubdtype(leaf.dtype, jnp.inexact):
        return leaf
    leaf = np.array(leaf)
    leaf[row] = poison
    return leaf


def _weighted_sum(tree: Any) -> Any:
    """Add up all that is floating, with weights of either sign, so that no two errors cancel."""
    total = 0.0
    for leaf in _floating(tree):
        weights = jnp.cos(jnp.arange(leaf[0].size)).reshape(leaf.shape[1:])
        total += (weights.astype(leaf.dtype) * leaf).sum()
    return total


def _both_orders(one: Any, other: Any) -> Any:
    """Make two batches of the rows of both, the one first in the first and last in the second."""

    def ordered(one, other):
        return np.stack([np.concatenate([one, other]), np.concatenate([other, one])])

    return jax.tree.map(ordered, one, other)


def _assert_alike(actual: Any, expected: Any, what: str) -> None:
    """Assert the same structure, shapes and dtypes, and for a carry thereby the batch axis."""

    def described(tree):
        return jax.tree.map(lambda leaf: f"{leaf.dtype}{list(leaf.shape)}", tree)

    actual, expected = described(actual), described(expected)
    assert actual == expected, f"{what} must be like {expected}, got {actual}"


def _assert_equal(actual: Any, expected: Any, what: str) -> None:
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert np.array_equal(a, b, equal_nan=True), f"{what} differ"


def _assert_zero(gradient: Any, what: str) -> None:
    assert (np.asarray(gradient) == 0).all(), f"{what} must be zero, got {gradient}"


def _assert_gradients_close(actual: Any, expected: Any, memory: _Memory, what: str) -> None:
    """Compare gradients as one vector, relative to its largest part.

    A part may vanish by cancellation, as that of the queries of an attention over a single step:
    what is left of it is the rounding of the others.
    """
    scale = max(np.abs(leaf).max(initial=0) for leaf in _floating(expected))
    _assert_close(actual, expected, memory, what, scale)


def _assert_close(
    actual: Any, expected: Any, memory: _Memory, what: str, common_scale: float | None = None
) -> None:
    _assert_alike(actual, expected, what)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        if a.dtype == jax.dtypes.float0:
            continue
        if not jnp.issubdtype(a.dtype, jnp.inexact):
            _assert_equal(a, b, what)
            continue
        wide = np.complex128 if jnp.issubdtype(a.dtype, jnp.complexfloating) else np.float64
        target = np.asarray(b, wide)
        scale = np.abs(target).max(initial=0) if common_scale is None else common_scale
        error = np.abs(np.asarray(a, wide) - target).max(initial=0)
        # Not "error > ...": a NaN on either side must fail.
        assert error <= memory.precision.tolerance * scale, (
            f"{what} differ by {error:.2g} where their scale is {scale:.2g}"
        )
