import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import memorax

HEAVY = (
    "chex",
    "distrax",
    "flashbax",
    "gymnasium",
    "gymnax",
    "matplotlib",
    "optuna",
    "orbax",
    "rlax",
    "tensorflow_probability",
    "wandb",
)
NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"


@pytest.mark.parametrize(
    "name", ["memorax", "memorax.networks", "memorax.algorithms", "memorax.environments"]
)
def test_a_library_imports_no_heavy_package(name):
    code = f"import sys, {name}\nprint(*sorted(set({HEAVY}) & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []


def imported_packages(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        yield from (name.partition(".")[0] for name in names)


def test_no_file_or_folder_is_named_like_a_package_that_it_imports():
    (package,) = memorax.__path__
    for path in Path(package).rglob("*.py"):
        own = {path.stem, path.parent.name} - {"memorax"}
        assert not own & set(imported_packages(path)), path


def test_no_file_is_longer_than_400_lines():
    (package,) = memorax.__path__
    lines = {path: path.read_text().count("\n") for path in Path(package).rglob("*.py")}
    assert {path: number for path, number in lines.items() if number > 400} == {}


SETTINGS = """
import logging, signal, sys, warnings
{before}
import jax

def changes_of(logger):
    # Libraries give their own logger one that does nothing.
    handlers = [item for item in logger.handlers if not isinstance(item, logging.NullHandler)]
    return [*filter(None, (logger.level, logger.disabled)), *logger.filters, *handlers]

def settings():
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    return {{
        "hooks": (sys.unraisablehook, sys.excepthook, sys.displayhook),
        "signals": [signal.getsignal(number) for number in signal.valid_signals()],
        "JAX": dict(jax.config.values),
        "warnings": list(warnings.filters),
        "loggers": {{
            logger.name: changes
            for logger in loggers
            if isinstance(logger, logging.Logger) and (changes := changes_of(logger))
        }},
    }}

before = settings()
{imports}
after = settings()
print(*(name for name in before if before[name] != after[name]))
"""
"""Prints the settings of the process that imports change, those by other packages aside."""


def changed_settings(before, imports):
    code = SETTINGS.format(before=before, imports=imports)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return ran.stdout.split()


LIBRARY = "memorax, memorax.networks, memorax.algorithms, memorax.environments, memorax.buffers"


@pytest.mark.parametrize(
    ("others", "names"),
    [
        ("import flax.linen, optax", LIBRARY),
        (
            "import matplotlib.pyplot, orbax.checkpoint, scipy.sparse, scipy.stats, tyro",
            "memorax.experiments.cli.command_line, memorax.experiments.run.policy",
        ),
    ],
)
def test_importing_changes_no_setting_of_the_program(others, names):
    assert changed_settings(others, f"import {names}") == []


def test_settings_that_are_changed_would_be_found():
    changes = """
sys.unraisablehook = print
jax.config.update("jax_enable_x64", True)
warnings.simplefilter("ignore")
logging.getLogger("absl").addFilter(bool)
"""
    assert changed_settings("", changes) == ["hooks", "JAX", "warnings", "loggers"]


@pytest.mark.exhaustive
def test_networks_take_at_most_three_tenths_of_a_second_more_to_import_than_flax():
    code = """
import time
import flax.linen
flax_only = time.process_time()
import memorax.networks
print(time.process_time() - flax_only)
"""
    # The least of several: others use the processor, too, and the first may compile the bytecode.
    environment = {name: value for name, value in os.environ.items() if name != NO_BYTECODE}
    seconds = [
        float(subprocess.check_output([sys.executable, "-c", code], env=environment))
        for _ in range(4)
    ]
    assert min(seconds) <= 0.3, seconds
