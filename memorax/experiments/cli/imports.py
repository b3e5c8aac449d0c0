"""The option ``--import`` of every command, which registers memories and tasks of your own."""

import importlib
import os
import sys
from collections.abc import Sequence

from memorax.experiments.cli.errors import BadInputError

FLAG = "--import"


def take_imports(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the modules of every ``--import MODULE``, and all other arguments.

    Raises:
        BadInputError: If the last one names no module.
    """
    modules: list[str] = []
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        flag, equals, value = word.partition("=")
        if flag != FLAG:
            rest.append(word)
            continue
        value = value if equals else next(words, "")
        if not value or value.startswith("-"):
            raise BadInputError(f"{FLAG} takes the name of a module, got {value or 'nothing'!r}")
        modules += value.split(",")
    return modules, rest


def search_current_folder() -> None:
    """Let the current folder's modules be found, after those of installed packages.

    ``python -m memorax`` does so by itself, the command ``memorax`` does not.
    """
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())


def import_modules(modules: Sequence[str]) -> None:
    """Import modules, which register what they define.

    Raises:
        BadInputError: If there is no such module, or it fails.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:
            # What somebody's own module raises can be anything.
            missing = isinstance(error, ModuleNotFoundError) and error.name == module
            reason = (
                f"there is no such module in {os.getcwd()} or installed; if it is in another "
                "folder, set PYTHONPATH to that"
                if missing
                else f"it fails: {type(error).__name__}: {error}"
            )
            raise BadInputError(f"{FLAG} {module}: {reason}") from error
