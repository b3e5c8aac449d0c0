"""Checksums of a folder's files, as ``sha256sum`` writes and checks them."""

import hashlib
import os
import re
from pathlib import Path

SUMS = "SHA256SUMS"
UNLISTED = SUMS, "_CHECKPOINT_METADATA", "commit_success.txt"
"""The sums themselves, and the files of times and of completion that Orbax writes last."""


def write_sums(folder: Path) -> None:
    """Write down the checksum of every file in a folder; returns when that is safe."""
    with (folder / SUMS).open("w", encoding="utf-8") as file:
        for name in sorted(_files(folder)):
            file.write(f"{_sum(folder / name)}  {name}\n")
        file.flush()
        os.fsync(file.fileno())


def check_sums(folder: Path, within: str = "") -> None:
    """Check that a folder has exactly the files that were written down, each as it was.

    Args:
        folder: The folder.
        within: Read only the files in this folder inside it; all have to be there anyhow.

    Raises:
        ValueError: If a file was changed, is missing or is one too many.
    """
    if not (folder / SUMS).is_file():
        raise ValueError(f"it has no {SUMS}")
    lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    matches = [re.fullmatch(r"([0-9a-f]{64})  (.+)", line) for line in lines]
    listed = {match[2]: match[1] for match in matches if match}
    if len(listed) != len(lines):
        raise ValueError(f"{SUMS} was changed")
    found = _files(folder)
    for name in sorted(listed.keys() - found):
        raise ValueError(f"{name} is missing")
    for name in sorted(found - listed.keys()):
        raise ValueError(f"{name} is not its own")
    for name in sorted(found):
        if name.startswith(within) and _sum(folder / name) != listed[name]:
            raise ValueError(f"{name} was changed")


def _files(folder: Path) -> set[str]:
    files = (path for path in folder.rglob("*") if not path.is_dir())
    names = {path.relative_to(folder).as_posix() for path in files}
    return {name for name in names if name.rpartition("/")[2] not in UNLISTED}


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
