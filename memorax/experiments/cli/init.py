"""The command ``memorax init``."""

import keyword
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from memorax.experiments.cli.errors import BadInputError
from memorax.experiments.cli.parsing import parse

TEMPLATE = Path(__file__).parent / "template"
FILES = {
    "NAME_cell.py": "cell.txt",
    "NAME_task.py": "task.txt",
    "train.py": "train.txt",
    "test_NAME.py": "test.txt",
}
"""Each file of the folder, and the file of the template it is made from."""
IMPORTED = {"flax", "jax", "memorax", "numpy", "optax", "pytest"}


@dataclass(frozen=True)
class Init:
    """Make a folder with a task, a cell, a script that trains them, and tests of both."""

    name: Annotated[str, tyro.conf.Positional]
    """The name of the folder, the task and the cell: a valid name of a Python module."""


def run(arguments: list[str]) -> int:
    """Run ``memorax init`` and return its exit code."""
    name = parse(Init, "memorax init", arguments).name
    check_name(name)
    folder = Path(name)
    if folder.is_symlink() or (
        folder.exists() and not (folder.is_dir() and not os.listdir(folder))
    ):
        raise BadInputError(
            f"{folder} is there already, and not an empty folder: choose another name"
        )
    try:
        make(folder, name)
    except OSError as error:
        raise BadInputError(f"{folder} cannot be made: {error}") from error
    print("\n".join(str(folder / file) for file in files(name)))
    print(f"train: cd {folder} && python train.py")
    print(f"test:  cd {folder} && python -m pytest")
    return 0


def check_name(name: str) -> None:
    """Check that modules can be named like that.

    Raises:
        BadInputError: If they cannot, or Python would find them in the place of another module.
    """
    if not (name.isascii() and name.isidentifier()) or keyword.iskeyword(name):
        raise BadInputError(
            f"name must be that of a Python module, of letters, digits and _, such as my_memory, "
            f"got {name!r}"
        )
    if name in IMPORTED or name in sys.stdlib_module_names:
        raise BadInputError(f"name must be none of a module that there is, got {name!r}")


def files(name: str) -> dict[str, str]:
    """Return the text of each file by its name."""
    kind = "".join(part[:1].upper() + part[1:] for part in name.split("_"))

    def filled(text: str) -> str:
        return text.replace("NAME", name).replace("CLASS", kind)

    return {
        filled(file): filled((TEMPLATE / template).read_text(encoding="utf-8"))
        for file, template in FILES.items()
    }


def make(folder: Path, name: str) -> None:
    """Make the folder with all files at once, or not at all."""
    made = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
    try:
        for file, text in files(name).items():
            (made / file).write_text(text, encoding="utf-8")
        # Nobody else may read what mkdtemp makes.
        made.chmod(0o777 & ~_umask())
        made.rename(folder)
    except BaseException:
        shutil.rmtree(made)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
