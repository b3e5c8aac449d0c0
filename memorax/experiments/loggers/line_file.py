"""A file of lines that only grows."""

import os
from collections.abc import Callable
from pathlib import Path

from memorax.experiments.files.fields import reading
from memorax.experiments.files.folder import Folder, whole_lines


class LineFile:
    """A file that lines are appended to; what a process that was killed left too much is cut off.

    Args:
        path: The file; it need not exist.
        keep: Which of the lines that are there to keep, from what they are to what is left.

    Raises:
        UnreadableError: If that cannot be told of them.
    """

    def __init__(self, path: Path, keep: Callable[[list[str]], list[str]]):
        with reading(path, "metrics of a run"):
            kept = "".join(keep(whole_lines(path)))
        if path.is_file() and path.stat().st_size != len(kept.encode()):
            Folder(path.parent).write(path.name, kept)
        # Unbuffered: what the system has not taken is known, and kept for the next time.
        self._file = path.open("ab", buffering=0)
        self._size = len(kept.encode())
        self._waiting = b""

    def append(self, text: str) -> None:
        """Add whole lines, their ends included, after those that could not be written before.

        Raises:
            OSError: If they cannot be written. None of them is left in the file then.
        """
        self._waiting += text.encode()
        try:
            written = 0
            while written < len(self._waiting):
                written += self._file.write(self._waiting[written:])
        except OSError:
            self._file.truncate(self._size)
            raise
        self._size += len(self._waiting)
        self._waiting = b""

    def sync(self) -> None:
        """Return when everything is safe on disk."""
        self.append("")
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Let go of the file when everything is safe."""
        try:
            self.sync()
        finally:
            self._file.close()
