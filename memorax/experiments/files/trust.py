"""Safety checks for run folders from untrusted sources."""

import os
import stat
import sys
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
    allowed = os.environ.get(IMPORTS, "").split(",")
    if names_module and module not in sys.modules and module not in allowed:
        raise ValueError(
            f"{environment} would import the module {module!r}, which can do anything: import it "
            f"yourself, or set {IMPORTS}={module} if you trust it"
        )
