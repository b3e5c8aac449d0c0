"""The terminal that commands print to."""

import contextlib
import errno
import io
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from rich.console import Console

if TYPE_CHECKING:
    from rich.progress import Progress


def make_console(quiet: bool = False) -> Console:
    """Return a console that prints paths, names and errors as they are.

    Brackets are no markup and names between colons no emoji. A line that has a path is printed with
    ``soft_wrap``, so that it can be copied whole. If the terminal goes away, output goes
    to /dev/null.

    Args:
        quiet: Print nothing.
    """
    return Console(quiet=quiet, markup=False, emoji=False, file=cast(TextIO, _StandardOutput()))


class _StandardOutput(io.TextIOBase):
    """Standard output, redirected to /dev/null once its terminal is gone."""

    @property
    def _stream(self) -> Any:
        # Rich puts something in the place of standard output that prints to the console.
        return getattr(sys.stdout, "rich_proxied_file", sys.stdout)

    def write(self, text: str) -> int:
        """Write a text."""
        with self._hung_up():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Write what waits."""
        with self._hung_up():
            self._stream.flush()

    @contextlib.contextmanager
    def _hung_up(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            # Its buffered output, and that of other parts, goes there too.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    @property
    def encoding(self) -> str:
        """Its encoding, by which Rich chooses how to draw lines."""
        return self._stream.encoding

    def isatty(self) -> bool:
        """Return whether the output is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """Return its number, by which Rich finds the terminal's width."""
        return self._stream.fileno()


def waiting_line(console: Console, doing: str) -> "Progress":
    """Return a context that shows the seconds passing, such as ``gru: compiling, 12 s``.

    The line is gone when it ends; where output is no terminal there is none.

    Args:
        console: The terminal.
        doing: What takes the seconds.
    """
    from rich.progress import Progress, SpinnerColumn, TextColumn  # noqa: PLC0415

    seconds = TextColumn("{task.description}, {task.elapsed:.0f} s", markup=False)
    progress = Progress(SpinnerColumn(), seconds, console=console, transient=True)
    progress.add_task(doing, total=None)
    return progress


def resume_command(command: str, folder: Path) -> str:
    """Return the command that resumes what is in a folder, for a shell.

    Args:
        command: The command up to the folder, such as ``memorax train --run-folder``.
        folder: The folder.
    """
    return f"{command} {shell_path(folder)} --resume"


def shell_path(path: Path) -> str:
    """Return a path as a shell takes it for one word, and no command for an option."""
    return shlex.quote(f"./{path}" if str(path).startswith("-") else str(path))
