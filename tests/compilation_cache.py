"""Compiled programs of the tests, kept in the user's cache folder for every clone to share."""

import os
from pathlib import Path

FOLDER = (
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "memorax" / "tests" / "jax"
)
MOST_BYTES = 2**30


def forget_oldest(folder: Path, most_bytes: int) -> None:
    """Delete the oldest files of a folder until the others take no more than ``most_bytes``.

    JAX could do so itself, but looks at every file whenever it adds one.
    """
    ages = []
    for file in folder.glob("*"):
        status = file.stat()
        ages.append((status.st_mtime, status.st_size, file))
    kept = 0
    for _, size, file in sorted(ages, reverse=True):
        kept += size
        if kept > most_bytes:
            # Another run may be deleting the same.
            file.unlink(missing_ok=True)
