"""The ``Examples`` of every public class runs, and shows what it says."""

import doctest
import inspect
from types import ModuleType
from typing import Any

import pytest

from memorax import algorithms, environments, networks

PACKAGES = networks, networks.heads, environments, algorithms
LINES = range(3, 9)


def public_classes(package: ModuleType) -> list[type]:
    members = (getattr(package, name) for name in package.__all__)
    return [member for member in members if inspect.isclass(member)]


CASES = [
    pytest.param(package, cls, id=f"{package.__name__.removeprefix('memorax.')}.{cls.__name__}")
    for package in PACKAGES
    for cls in public_classes(package)
]


def example_of(documented: Any) -> str:
    """Return the lines below ``Examples:``, to the end of the docstring."""
    _, found, example = inspect.getdoc(documented).partition("Examples:\n")
    assert found, f"{documented.__name__} has no Examples in its docstring"
    return inspect.cleandoc(example)


def run(name: str, example: str, names: dict[str, Any]) -> dict[str, Any]:
    """Run an example, and return the names that it starts from and defines."""
    test = doctest.DocTestParser().get_doctest(example, names, name, None, None)
    runner = doctest.DocTestRunner()
    report: list[str] = []
    result = runner.run(test, out=report.append, clear_globs=False)
    assert result.attempted, f"{name} has Examples without code"
    assert not result.failed, "".join(report)
    return test.globs


@pytest.fixture(scope="module")
def setups():
    """The names that the examples of each package start from, by its own ``Examples``."""
    setups = {}
    for package in PACKAGES:
        if package is networks.heads:
            setups[package] = setups[networks]
        else:
            setups[package] = run(package.__name__, example_of(package), {})
    return setups


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize(("package", "cls"), CASES)
def test_example_runs(package, cls, setups):
    example = example_of(cls)
    assert len(example.splitlines()) in LINES
    run(cls.__name__, example, setups[package])
