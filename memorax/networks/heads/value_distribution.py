"""Values as distributions over atoms, which distributional heads return and learn from."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int, PyTree

from memorax.validation import check_between, check_integer


@struct.dataclass
class ValueDistribution:
    """A categorical distribution over the values of a fixed support.

    Its only array leads with the axes of what it is the value of, so that it can be cut and
    stacked along them like any output.

    Attributes:
        logits: ``(..., atoms)``, the unnormalised logarithms of the probabilities.
        first_atom: The least value of the support.
        last_atom: The largest.

    Examples:
        >>> value = heads.ValueDistribution(jnp.zeros(3), first_atom=-1.0, last_atom=1.0)
        >>> value.atoms.tolist()
        [-1.0, 0.0, 1.0]
        >>> float(value.mean)
        0.0
    """

    logits: PyTree
    first_atom: float = struct.field(pytree_node=False)
    last_atom: float = struct.field(pytree_node=False)

    @property
    def atoms(self) -> Float[Array, " atoms"]:
        """The values that the logits are of, in ascending order and equally distant."""
        return support(self.first_atom, self.last_atom, self.logits.shape[-1], self.logits.dtype)

    @property
    def probs(self) -> Float[Array, "*axes atoms"]:
        """The probabilities of the atoms."""
        return jax.nn.softmax(self.logits)

    @property
    def mean(self) -> Float[Array, "*axes"]:
        """The expected value."""
        return self.probs @ self.atoms


Output = Float[Array, "..."] | ValueDistribution


def expected_value(output: Output) -> Float[Array, "..."]:
    """Return the values of a head's output: itself, or a distribution's mean.

    Args:
        output: The output of a head of values, of any shape.
    """
    return output.mean if isinstance(output, ValueDistribution) else output


def select_action(output: Output, action: Int[Array, "*axes"]) -> Output:
    """Return the part of a Q-network's output that is about the given actions.

    Args:
        output: The output for every action, values ``(..., actions)`` or their distributions.
        action: The actions, of the output's leading shape.
    """
    if isinstance(output, ValueDistribution):
        logits = jnp.take_along_axis(output.logits, action[..., None, None], axis=-2)
        return replace(output, logits=logits[..., 0, :])
    return jnp.take_along_axis(output, action[..., None], axis=-1)[..., 0]


def support(v_min: float, v_max: float, num_atoms: int, dtype: Any) -> Float[Array, " atoms"]:
    """Return equally distant atoms from ``v_min`` to ``v_max``, both included."""
    return jnp.asarray(np.linspace(v_min, v_max, num_atoms), dtype)


def project(
    values: Float[Array, "*#axes values"],
    probs: Float[Array, "*#axes values"],
    atoms: Float[Array, " atoms"],
) -> Float[Array, "*axes atoms"]:
    """Move the probability of each value to its two neighbouring atoms.

    The closer atom gets more, in proportion, so that the mean stays. Values outside the support
    go to its nearest end.

    Args:
        values: The outcomes.
        probs: Their probabilities.
        atoms: The support to move to, in ascending order.

    Returns:
        The probabilities of the atoms.

    Source: Bellemare et al. 2017, arXiv 1707.06887, equation 7.
    """
    per_gap = 1 / jnp.diff(atoms)
    # Of each atom: to the one above it, and from the one below; the ends have none there.
    above, below = (jnp.pad(per_gap, pad)[:, None] for pad in ((0, 1), (1, 0)))
    offset = jnp.clip(values, atoms[0], atoms[-1])[..., None, :] - atoms[:, None]
    distance = jnp.where(offset >= 0, offset * above, -offset * below)
    return (jnp.clip(1 - distance, 0, 1) * probs[..., None, :]).sum(axis=-1)


def cross_entropy(
    output: ValueDistribution, target: Float[Array, "*axes atoms"]
) -> Float[Array, "*axes"]:
    """Return - sum target log(output), the logarithm taken of the output's probabilities."""
    return -jnp.sum(target * jax.nn.log_softmax(output.logits), axis=-1)


def check_support(head: str, atoms_field: str, num_atoms: Any, v_min: Any, v_max: Any) -> None:
    """Raise ``ValueError`` unless there are two atoms or more from ``v_min`` up to ``v_max``."""
    check_integer(f"{head}.{atoms_field}", num_atoms, 2)
    largest = float(np.finfo(np.float32).max)
    check_between(f"{head}.v_min", v_min, -largest, largest)
    check_between(f"{head}.v_max", v_max, -largest, largest)
    if v_min >= v_max:
        raise ValueError(f"{head}.v_min must be less than v_max, got v_min={v_min}, v_max={v_max}")
