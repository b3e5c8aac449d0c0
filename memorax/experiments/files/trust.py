"""Safety checks for run folders from untrusted sources."""

import importlib
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

IMPORTS = "MEMORAX_IMPORT"
"""The environment variable with the modules that configurations may have imported."""


def check_files(folder: Path) -> None:
    """Check that all in a folder stays in it and is there to be read.

    Raises:
        ValueError: If a link leads out of the folder, or something is neither file nor folder:
            resuming there would write, or wait, elsewhere.
    """
    inside = folder.resolve()
    for parent, folders, files in os.walk(folder):
        for name in folders + files:
            path = Path(parent, name)
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                if not path.resolve().is_relative_to(inside):
                    raise ValueError(f"{path} is a link that leads out of {folder}")
            elif not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise ValueError(f"{path} is neither a file nor a folder")


def check_import(environment: str) -> None:
    """Check that a task read from a file asks for no module that the user has not chosen.

    A Gymnasium environment may be named with the module that registers it, ``"module:Name"``, and
    to import a module is to run it.

    Args:
        environment: The task, as ``"suite::name"``.

    Raises:
        ValueError: If it names a module that is neither imported already nor in the environment
            variable ``MEMORAX_IMPORT``, a list with commas.
    """
    module, names_module, _ = environment.partition("::")[2].rpartition(":")
    if names_module and not _is_trusted(module):
        raise ValueError(
            f"{environment} would import the module {module!r}, which can do anything: add "
            f"--import {module} if you trust it, or set {IMPORTS}={module}"
        )


def check_imports(path: Path, modules: Sequence[str]) -> None:
    """Check that the modules that a run or a study was made with are imported.

    Args:
        path: Its ``config.json``.
        modules: What it says of them.

    Raises:
        ValueError: If one is neither imported already nor in the environment variable
            ``MEMORAX_IMPORT``; those are imported.
    """
    for module in modules:
        if not _is_trusted(module):
            raise ValueError(
                f"{path} was made with the module {module!r}, which registers parts of its own and "
                f"can do anything: add --import {module} if you trust it, or set "
                f"{IMPORTS}={module}"
            )
        if module not in sys.modules and module != main_module():
            importlib.import_module(module)


def main_module() -> str | None:
    """Return the name by which others can import the script that runs, None if it is none."""
    file = getattr(sys.modules["__main__"], "__file__", None)
    return None if file is None else Path(file).stem


def _is_trusted(module: str) -> bool:
    allowed = os.environ.get(IMPORTS, "").split(",")
    return module in (*sys.modules, *allowed, main_module())
