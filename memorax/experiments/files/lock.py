"""One process at a time trains in a folder."""

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

LOCK = ".lock"
UNSUPPORTED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOLCK}
"""Why a folder cannot be locked: nothing can be written there, or its file system has no locks."""


class FolderInUseError(ValueError):
    """Another process trains in a folder; the message names it and its machine."""


@contextlib.contextmanager
def lock(folder: Path, kind: str) -> Iterator[None]:
    """Lock a folder against other processes that train in it.

    The system releases the lock when the process ends, however it ends: the lock file of a killed
    process blocks no other. Across machines this needs a file system that shares locks, as
    NFS does. A folder that cannot be written is not locked; training in it fails by itself.

    Args:
        folder: The folder.
        kind: The folder's name in error messages.

    Raises:
        FolderInUseError: If another process trains there.
    """
    path = folder / LOCK
    try:
        file = _acquire(path)
    except BlockingIOError:
        holder = ""
        with contextlib.suppress(FileNotFoundError):  # It may end at this moment.
            holder = path.read_text(encoding="utf-8", errors="replace").strip()
        raise FolderInUseError(
            f"{kind} {folder} is in use by {holder or 'another process'}: wait until that has "
            "ended, or end it"
        ) from None
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(file)


def _acquire(path: Path) -> int:
    """Lock a file, write its owner into it, and return its descriptor.

    Raises:
        BlockingIOError: If another process holds it.
    """
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The previous holder may have removed the file, and another process made a new one.
            if _is_at(file, path):
                os.truncate(file, 0)
                os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
                return file
        except OSError:
            os.close(file)
            raise
        os.close(file)


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False
