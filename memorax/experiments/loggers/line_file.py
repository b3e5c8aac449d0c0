"""An append-only file of lines."""

import os
from collections.abc import Callable
from pathlib import Path

from memorax.experiments.files.fields import reading
from memorax.experiments.files.folder import Folder, whole_lines


class LineFile:
    """An append-only file; extra lines of a process that was killed are removed when it is opened.

    Args:
        path: The file; it need not exist.
        keep: Filters the existing lines.

    Raises:
        UnreadableError: If the lines cannot be parsed.
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
            OSError: If they cannot be written. The file then holds none of them.
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
        """Sync and close the file."""
        try:
            self.sync()
        finally:
            self._file.close()
