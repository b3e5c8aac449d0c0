"""The terminal that commands print to."""

import shlex
from pathlib import Path

from rich.console import Console


def make_console(quiet: bool = False) -> Console:
    """Return a console that prints paths, names and errors as they are.

    Brackets are no markup and names between colons no emoji. A line that has a path is printed with
    ``soft_wrap``, so that it can be copied whole.

    Args:
        quiet: Print nothing.
    """
    return Console(quiet=quiet, markup=False, emoji=False)


def resume_command(command: str, folder: Path) -> str:
    """Return the command that resumes what is in a folder, for a shell.

    Args:
        command: What stands before the folder, such as ``memorax train --run-folder``.
        folder: The folder.
    """
    return f"{command} {shell_path(folder)} --resume"


def shell_path(path: Path) -> str:
    """Return a path as a shell takes it for one word, and no command for an option."""
    return shlex.quote(f"./{path}" if str(path).startswith("-") else str(path))
