"""Numbers from independent implementations."""

import os
from pathlib import Path

import numpy as np


def load(name: str) -> dict[str, np.ndarray]:
    """Return the arrays of a case, from ``MEMORAX_GOLDEN_DIR`` if that is set."""
    folder = Path(os.environ.get("MEMORAX_GOLDEN_DIR", Path(__file__).parent))
    with np.load(folder / f"{name}.npz") as arrays:
        return dict(arrays)


def assert_golden(actual, expected, dtype):
    """Compare relative to the largest number: 1e-5 in float32, 1e-9 in float64."""
    tolerance = {np.float32: 1e-5, np.float64: 1e-9}[dtype]
    assert actual.dtype == dtype
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)
