"""Numbers from independent implementations, and how closely ours must agree with them."""

import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

TOLERANCES = {np.float32: 1e-5, np.float64: 1e-9}


def load(name: str) -> dict[str, np.ndarray]:
    """Return the arrays of a case, from ``MEMORAX_GOLDEN_DIR`` if that is set."""
    folder = Path(os.environ.get("MEMORAX_GOLDEN_DIR") or Path(__file__).parent)
    with np.load(folder / f"{name}.npz") as arrays:
        return dict(arrays)


def cast(tree: Any, dtype: Any) -> Any:
    """Return a tree of the oracle's float64 arrays as arrays of JAX in the given dtype."""
    return jax.tree.map(lambda leaf: jax.numpy.asarray(leaf, dtype), tree)


def assert_golden(actual: Any, expected: Any, dtype: Any, tolerance: float | None = None) -> None:
    """Compare trees, each array relative to its largest number: that is what rounding scales with.

    ``dtype`` is what ours were computed in, and must have come out in; without ``tolerance``, it
    is that of ``TOLERANCES``.
    """
    tolerance = TOLERANCES[dtype] if tolerance is None else tolerance
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for ours, oracle in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert ours.dtype == dtype
        scale = np.abs(oracle).max()
        np.testing.assert_allclose(ours, oracle, rtol=0, atol=tolerance * scale, equal_nan=False)
