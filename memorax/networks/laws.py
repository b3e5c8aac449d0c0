"""The laws of a memory, checked on small cases in order of their size.

The tests of memorax state the same laws over many drawn cases. Here every law goes through a fixed
list of cases, the smallest first, so that the first failure is the smallest case that breaks it.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from memorax.networks.sequence_models.base import apply_sequence_model, initialize_carry
from memorax.networks.sequence_models.memoroid import Memoroid
from memorax.validation import check_between, check_positive, find_name

BATCH = 2
TIMES = 2, 3, 5
"""Lengths of the sequences that all cuts and all single resets are tried on."""
LONG_TIMES = 1, 1_024
"""Lengths that outputs and gradients have to be finite for."""
PERTURBATION = 0.2
"""Parameters are moved away from their initial values: a gate at zero hides errors."""


@dataclass(frozen=True)
class Finding:
    """What checking a law has shown.

    Attributes:
        law: The law's name.
        statement: What it says.
        broken: The smallest case that breaks it, and how; ``None``: it holds.
    """

    law: str
    statement: str
    broken: str | None


def check_laws(
    model: Any, features: int = 8, tolerance: float = 1e-5, laws: Sequence[str] | None = None
) -> Iterator[Finding]:
    """Check whether a sequence model keeps the laws of a memory.

    Args:
        model: A sequence model; ``as_sequence_model`` makes one of a cell.
        features: The width of its inputs.
        tolerance: The largest difference, relative to the largest of the values compared.
        laws: The names of the laws to check; ``None``: those of ``LAWS``.

    Yields:
        A finding for each law, as soon as it has been checked.

    Raises:
        ValueError: If an option is out of its range, or there is no such law.
    """
    check_positive("check_laws.features", features)
    check_between("check_laws.tolerance", tolerance, 0.0)
    names = list(LAWS) if laws is None else [find_name("law", name, LAWS) for name in laws]
    memory = _Memory(model, features, tolerance)
    for name in names:
        statement = (LAWS[name].__doc__ or "").splitlines()[0]
        yield Finding(name, statement, next(LAWS[name](memory), None))


class _Memory:
    """A model with perturbed parameters, which compiles once for each length."""

    def __init__(self, model: Any, features: int, tolerance: float):
        self.model, self.features, self.tolerance = model, features, tolerance
        apply = nn.apply(apply_sequence_model, model)
        self.apply = lambda *arguments: apply(*jax.tree.map(jnp.asarray, arguments))
        init = jax.jit(nn.init(apply_sequence_model, model))
        variables = init(jax.random.key(0), jnp.zeros((1, 1, features)))
        noise = np.random.default_rng(0)
        self.variables = jax.tree.map(
            lambda leaf: (leaf + PERTURBATION * noise.standard_normal(leaf.shape)).astype(
                leaf.dtype
            ),
            jax.device_get(variables),
        )
        self.fresh = self.fresh_carry(BATCH)
        self.read = jax.jit(lambda *arguments: self.apply(self.variables, *arguments))

    def fresh_carry(self, batch: int) -> PyTree:
        return initialize_carry(self.model, jax.random.key(0), (batch, self.features))

    def draw(self, time: int, seed: int = 0) -> Float[np.ndarray, "batch time features"]:
        drawn = np.random.default_rng(seed).standard_normal((BATCH, time, self.features))
        return drawn.astype(np.float32)

    def later_carry(self) -> PyTree:
        """Return a carry that is not fresh."""
        time = TIMES[0]
        return self.read(self.draw(time, seed=1), np.zeros((BATCH, time), bool), self.fresh)[0]

    def difference(self, actual: PyTree, expected: PyTree) -> str | None:
        """Say how much two trees differ, or return ``None`` if they agree."""
        leaves = jax.tree.leaves(jax.device_get(actual)), jax.tree.leaves(jax.device_get(expected))
        for one, other in zip(*leaves, strict=True):
            # Integers would wrap round, and booleans have no difference.
            target = np.asarray(other, np.result_type(other, np.float64))
            scale = np.abs(target).max(initial=0)
            error = np.abs(one - target).max(initial=0)
            # Not "error > ...": a NaN on either side must fail.
            if not error <= self.tolerance * scale:
                return f"differ by {error:.2g} where the largest is {scale:.2g}"
        return None


def _resets(time: int) -> Iterator[tuple[str, Bool[np.ndarray, "batch time"]]]:
    """Yield no reset, one at each step of the first row, and resets at all steps."""
    yield "no reset", np.zeros((BATCH, time), bool)
    for step in range(time):
        done = np.zeros((BATCH, time), bool)
        done[0, step] = True
        yield f"a reset at step {step}", done
    yield "resets at all steps", np.ones((BATCH, time), bool)


def carry(memory: _Memory) -> Iterator[str]:
    """The carry has the batch axis first, and keeps its structure, shapes and dtypes."""
    for batch in (1, BATCH):
        for leaf in jax.tree.leaves(memory.fresh_carry(batch)):
            if jnp.shape(leaf)[:1] != (batch,):
                yield f"batch {batch}: a leaf of initialize_carry has shape {jnp.shape(leaf)}"
    for time in (1, *TIMES):
        after, _ = memory.read(memory.draw(time), np.zeros((BATCH, time), bool), memory.fresh)
        before = _described(memory.fresh)
        if _described(after) != before:
            yield f"{time} steps: the carry is {_described(after)} after a call, {before} before"


def cut(memory: _Memory) -> Iterator[str]:
    """Outputs and final carry are the same however a sequence is cut."""
    later = memory.later_carry()
    starts = ("a fresh carry", memory.fresh), ("a later carry", later)
    for time, (named, start) in itertools.product(TIMES, starts):
        for (resets, done), at in itertools.product(_resets(time), range(1, time)):
            inputs = memory.draw(time)
            final, outputs = memory.read(inputs, done, start)
            middle, first = memory.read(inputs[:, :at], done[:, :at], start)
            end, second = memory.read(inputs[:, at:], done[:, at:], middle)
            case = f"{time} steps from {named} in pieces of {at} and {time - at}, {resets}"
            pieces = np.concatenate([first, second], axis=1)
            for what, one, other in (("outputs", pieces, outputs), ("carries", end, final)):
                if found := memory.difference(one, other):
                    yield f"{case}: {what} {found}"


def reset(memory: _Memory) -> Iterator[str]:
    """After a reset all is as from a fresh carry; no gradient and no NaN passes it."""

    @jax.jit
    def gradients(inputs, done, start, counted):
        def total(inputs):
            outputs = memory.apply(memory.variables, inputs, done, start)[1]
            return jnp.where(counted[..., None], outputs, 0).sum()

        return jax.grad(total)(inputs)

    later = memory.later_carry()
    for time in TIMES:
        for step in range(time):
            inputs, done = memory.draw(time), np.zeros((BATCH, time), bool)
            done[:, step] = True
            case = f"{time} steps from a later carry, a reset at step {step}"
            _, outputs = memory.read(inputs, done, later)
            _, fresh = memory.read(inputs[:, step:], np.zeros_like(done[:, step:]), memory.fresh)
            if found := memory.difference(outputs[:, step:], fresh):
                yield f"{case}: outputs after it and those of a fresh carry {found}"
            after = np.arange(time) >= step
            to_inputs = gradients(inputs, done, later, np.tile(after, (BATCH, 1)))
            if np.any(np.asarray(to_inputs)[:, :step] != 0):
                yield f"{case}: the gradient reaches the inputs before it"
            inputs[:, :step] = np.nan
            poisoned = jax.tree.map(_poisoned, later)
            _, outputs = memory.read(inputs, done, poisoned)
            if found := memory.difference(outputs[:, step:], fresh):
                yield f"{case}: a NaN before it reaches the outputs after it, which {found}"


def causal(memory: _Memory) -> Iterator[str]:
    """Outputs never depend on what comes later."""
    for time in TIMES:
        for step in range(time - 1):
            inputs, done = memory.draw(time), np.zeros((BATCH, time), bool)
            _, outputs = memory.read(inputs, done, memory.fresh)
            inputs[:, step + 1 :] += 1
            for resets, done in _resets(time):
                if done[:, : step + 1].any():
                    continue
                _, changed = memory.read(inputs, done, memory.fresh)
                if found := memory.difference(changed[:, : step + 1], outputs[:, : step + 1]):
                    yield (
                        f"{time} steps: with other inputs and {resets} after step {step}, outputs "
                        f"up to it {found}"
                    )


def row(memory: _Memory) -> Iterator[str]:
    """The rows of a batch never mix, whatever their resets."""
    for time in (1, *TIMES):
        inputs, done = memory.draw(time), np.zeros((BATCH, time), bool)
        before = memory.read(inputs, done, memory.fresh)
        inputs[0] += 1
        for resets, done in _resets(time):
            if done[1].any():
                continue
            after = memory.read(inputs, done, memory.fresh)
            last = (jax.tree.map(lambda leaf: leaf[1:], tree) for tree in (after, before))
            if found := memory.difference(*last):
                yield f"{time} steps: with other inputs and {resets} in row 0, row 1 {found}"


def finite(memory: _Memory) -> Iterator[str]:
    """Outputs and gradients are finite for long sequences and for small and large inputs."""

    @jax.jit
    def read(inputs, done):
        def total(variables, inputs):
            after, outputs = memory.apply(variables, inputs, done, memory.fresh)
            return outputs.sum(), (after, outputs)

        return jax.grad(total, argnums=(0, 1), has_aux=True)(memory.variables, inputs)

    for time, scale, resets in itertools.product(LONG_TIMES, (1.0, 1e-3, 1e3), (False, True)):
        inputs = (scale * memory.draw(time)).astype(np.float32)
        gradients, forward = read(inputs, np.full((BATCH, time), resets))
        for what, tree in (("outputs or carry", forward), ("gradients", gradients)):
            leaves = (np.asarray(leaf) for leaf in jax.tree.leaves(tree))
            if not all(np.isfinite(leaf).all() for leaf in leaves):
                named = "a reset at each" if resets else "no reset"
                yield f"{time} steps, inputs scaled by {scale:g}, {named}: {what} are not finite"


def one_answer(memory: _Memory) -> Iterator[str]:
    """Every implementation of the recurrence gives the same."""
    if not isinstance(memory.model, Memoroid):
        return
    names = memory.model.cell.implementations
    for time, name in itertools.product(TIMES, names):
        other = jax.jit(nn.apply(apply_sequence_model, memory.model.clone(implementation=name)))
        for resets, done in _resets(time):
            inputs = memory.draw(time)
            expected = memory.read(inputs, done, memory.fresh)
            actual = other(memory.variables, inputs, done, memory.fresh)
            if found := memory.difference(actual, expected):
                both = f"{name!r} and {memory.model.implementation!r}"
                yield f"{time} steps, {resets}: {both} {found}"


def transparent(memory: _Memory) -> Iterator[str]:
    """jit, vmap and checkpointing change nothing, and no call is random."""
    for time in TIMES[:1]:
        inputs, done = memory.draw(time), next(itertools.islice(_resets(time), 1, None))[1]
        plain = memory.apply(memory.variables, inputs, done, memory.fresh)
        again = memory.apply(memory.variables, inputs, done, memory.fresh)
        if found := memory.difference(again, plain):
            yield f"{time} steps: the same call, made twice: {found}"
        if found := memory.difference(memory.read(inputs, done, memory.fresh), plain):
            yield f"{time} steps: with and without jit: {found}"
        stacked = jax.tree.map(lambda leaf: leaf[None], (inputs, done, memory.fresh))
        mapped = jax.vmap(lambda arguments: memory.apply(memory.variables, *arguments))(stacked)
        if found := memory.difference(jax.tree.map(lambda leaf: leaf[0], mapped), plain):
            yield f"{time} steps: with and without vmap: {found}"

        def total(variables, inputs=inputs, done=done):
            return memory.apply(variables, inputs, done, memory.fresh)[1].sum()

        checkpointed = jax.grad(jax.checkpoint(total))(memory.variables)
        if found := memory.difference(checkpointed, jax.grad(total)(memory.variables)):
            yield f"{time} steps: gradients with and without jax.checkpoint: {found}"


LAWS: dict[str, Callable[[_Memory], Iterator[str]]] = {
    law.__name__: law for law in (carry, cut, reset, causal, row, finite, one_answer, transparent)
}
"""Each law yields the cases that break it, the smallest first."""


def _described(tree: PyTree) -> str:
    return str(jax.tree.map(lambda leaf: f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}", tree))


def _poisoned(leaf: Array) -> Array:
    return jnp.full_like(leaf, jnp.nan) if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf
