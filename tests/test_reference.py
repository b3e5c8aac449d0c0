"""The API reference has every public name."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import memorax

REFERENCE = Path(__file__).parents[1] / "docs" / "api.md"
# Tools of the command line, not of a program's imports.
PRIVATE = ("memorax.experiments", "memorax.catalog", "memorax.configurations")


def public_modules():
    for module in pkgutil.walk_packages(memorax.__path__, "memorax."):
        private = any(part.startswith("__") for part in module.name.split("."))
        if module.ispkg and not private and not module.name.startswith(PRIVATE):
            yield module.name


def object_of(name):
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        parent, _, attribute = name.rpartition(".")
        return getattr(object_of(parent), attribute)


def names_in_reference():
    """Return the last parts of the names that have an entry, those of listed modules included."""
    for entry in re.findall(r"^::: (\S+)$", REFERENCE.read_text(), re.M):
        listed = object_of(entry)
        yield entry.rpartition(".")[2]
        if inspect.ismodule(listed):
            yield from getattr(listed, "__all__", ())


@pytest.mark.parametrize("module", ["memorax", *public_modules()])
def test_every_public_name_is_in_the_reference_and_in_dir(module):
    module = importlib.import_module(module)
    public = {
        name
        for name in getattr(module, "__all__", ())
        if not inspect.ismodule(getattr(module, name))
    }
    assert public <= set(dir(module))
    assert public - set(names_in_reference()) == set()
