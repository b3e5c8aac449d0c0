"""The command ``memorax check-memory``."""

import importlib
import inspect
import sys
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from memorax.experiments.cli.errors import BadInputError, input_checked
from memorax.experiments.cli.parsing import parse
from memorax.validation import check_between, check_positive, find_name, unknown_name


@dataclass(frozen=True)
class CheckMemory:
    """Check which laws of a memory a cell of your own keeps.

    A law that is broken is printed with the smallest case that breaks it, and the exit code is 1.
    """

    cell: Annotated[str, tyro.conf.Positional]
    """module:Cell, where Cell is a cell or sequence model, its class, or a function that makes one.

    A class or function is called with features=FEATURES if it takes that, else with nothing.
    """
    features: int = 8
    """The width of the inputs."""
    batched: bool = True
    """Whether a cell that is no Flax cell reads a batch; if not, it is mapped over the rows."""
    laws: tuple[str, ...] = ()
    """Which laws to check; all of them if none is named."""
    tolerance: float = 1e-5
    """The largest difference, relative to the largest of the values compared."""


def run(arguments: list[str]) -> int:
    """Run ``memorax check-memory`` and return its exit code."""
    options = parse(CheckMemory, "memorax check-memory", arguments)
    with input_checked():
        check_positive("features", options.features)
        check_between("tolerance", options.tolerance, 0.0)
        named = _import(options.cell)
        cell = _make(options.cell, named, options.features)
    # Not at the top: they import Flax, which the help does not need.
    from memorax.networks import as_sequence_model
    from memorax.networks.laws import LAWS, check_laws

    with input_checked():
        names = [find_name("law", name, LAWS) for name in options.laws] or list(LAWS)
        model = as_sequence_model(cell, options.batched)
    works = True
    findings = check_laws(model, options.features, options.tolerance, names)
    for finding in _running(options.cell, findings):
        state = "holds" if finding.broken is None else "BROKEN"
        print(f"{finding.law:<12} {state:<7} {finding.statement}", flush=True)
        if finding.broken is not None:
            works = False
            print(f"{'':<12} smallest case: {finding.broken}", flush=True)
    return 0 if works else 1


def _running(name: str, findings: Any) -> Any:
    """Yield the findings; what a user's cell raises, which can be anything, is bad input."""
    try:
        yield from findings
    except Exception as error:
        described = " ".join(f"{type(error).__name__}: {error}".split())
        raise BadInputError(f"{name} cannot be run: {described}") from error


def _import(name: str) -> Any:
    """Return what ``module:Name`` stands for.

    Raises:
        ValueError: If it is written in another way, or the module has no such name.
        ModuleNotFoundError: If there is no such module.
    """
    module_name, separator, attribute = name.partition(":")
    if not (separator and module_name and attribute):
        raise ValueError(f"a cell is named 'module:Cell', got {name!r}")
    # A script's own folder is searched, and not the one that it was started in.
    sys.path.insert(0, "")
    try:
        module = importlib.import_module(module_name)
    finally:
        sys.path.remove("")
    if not hasattr(module, attribute):
        public = [public for public in vars(module) if not public.startswith("_")]
        raise ValueError(unknown_name(f"name in the module {module_name}", attribute, public))
    return getattr(module, attribute)


def _make(name: str, named: Any, features: int) -> Any:
    """Return the cell: ``named`` itself, or what it makes."""
    if not (isinstance(named, type) or inspect.isfunction(named)):
        return named
    parameters = inspect.signature(named).parameters
    given = {"features": features} if "features" in parameters else {}
    missing = [
        parameter.name
        for parameter in parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and parameter.name not in given
    ]
    if missing:
        raise ValueError(
            f"{name} must need no argument but features, got {', '.join(missing)}: name a function "
            "that makes the cell"
        )
    return named(**given)
