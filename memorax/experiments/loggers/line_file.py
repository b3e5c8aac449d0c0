"""A file of lines that only grows."""

import os
from collections.abc import Callable
from pathlib import Path

from memorax.experiments.run_folder import Folder, whole_lines


class LineFile:
    """A file that lines are appended to; what a process that was killed left too much is cut off.

    Args:
        path: The file; it need not exist.
        keep: Which of the lines that are there to keep, from what they are to what is left.
    """

    def __init__(self, path: Path, keep: Callable[[list[str]], list[str]]):
        lines = whole_lines(path)
        kept = "".join(keep(lines))
        if path.is_file() and path.stat().st_size != len(kept.encode()):
            Folder(path.parent).write(path.name, kept)
        self._file = path.open("a", newline="", encoding="utf-8")

    def append(self, text: str) -> None:
        """Add whole lines, their ends included."""
        self._file.write(text)
        self._file.flush()

    def sync(self) -> None:
        """Return when everything is safe on disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Let go of the file when everything is safe."""
        self.sync()
        self._file.close()
